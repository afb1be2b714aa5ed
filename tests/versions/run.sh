#!/bin/sh
# Runs the tests of the adapters against other versions of the servers than the installed ones: sh tests/versions/run.sh
# [SUITE...]. The servers are those of other suites of Debian, fetched into .versions/, and leave the machine as it is.
set -u

here=$(dirname "$0")
python=${PYTHON:-.venv/bin/python}
failed=0

# PACKAGES, SUITE, then the tests.
try() {
    suite=$1 packages=$2
    shift 2
    folder=.versions/$suite-$(echo "$packages" | tr ' ' '+')
    # shellcheck disable=SC2086 # One word for each package.
    if ! sh "$here/fetch.sh" "$suite" "$folder" $packages >"$folder.log" 2>&1; then
        echo "$suite: $packages cannot be had here: $folder.log says why"
        failed=1
        return
    fi
    echo "$suite: $packages"
    TEST_SERVERS_FROM=$PWD/$folder/programs "$python" -m pytest -q "$@" || failed=1
}

mkdir -p .versions
for suite in ${@:-bookworm-backports trixie sid}; do
    case $suite in
    *-backports) try "$suite" valkey-server -k "redis and not rabbit" tests/contract tests/integration/test_redis.py ;;
    *)
        try "$suite" redis-server -k "redis and not rabbit" tests/contract tests/integration/test_redis.py
        try "$suite" valkey-server -k "redis and not rabbit" tests/contract tests/integration/test_redis.py
        try "$suite" rabbitmq-server -k "rabbit and not redis" tests/contract tests/integration/test_rabbitmq.py
        ;;
    esac
done
exit $failed
