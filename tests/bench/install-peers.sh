#!/bin/sh
# Installs the gateways that `make bench ARGS="--peers"` measures beside ours, where they are missing: Kannel from Debian
# and its kin, as root or by a sudo that asks for no password, and Jasmin from the Python package index, into
# .venv/jasmin. Says what could not be had, and then fails; the bench reports it too, and measures the rest.
set -eu

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
jasmin=$here/../../.venv/jasmin
# The releases that were measured; what Jasmin imports from setuptools is gone from later ones.
requirements="jasmin==0.11.1 setuptools<81"

. "$here/apt.sh"

kannel() (
    give_up() {
        echo "Kannel could not be had: it is not installed, and $1. It is in Debian's packages kannel, kannel-extras."
        exit 1
    } >&2

    command -v bearerbox >/dev/null && [ -x /usr/lib/kannel/test/fakesmsc ] && exit 0
    become_root
    # The bench starts one of its own: keep the package from starting the system's.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap '$as_root rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
    fi
    apt_get update || echo "Going on with the package lists that are there."
    apt_get install --no-install-recommends kannel kannel-extras ||
        give_up "apt-get could not install it (see above)"
    if command -v systemctl >/dev/null; then
        $as_root systemctl disable --quiet kannel || true # Nor when the machine starts next.
    fi
)

jasmin() (
    give_up() {
        echo "Jasmin could not be had: it is not installed, and $1."
        exit 1
    } >&2

    [ -x "$jasmin/bin/jasmind.py" ] && exit 0
    # It imports what Python 3.13 no longer has.
    for python in python3.12 python3.11 python3.10 python3; do
        "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info >= (3, 13))' 2>/dev/null || continue
        "$python" -m venv --clear "$jasmin" || continue
        # shellcheck disable=SC2086 # One word for each requirement.
        "$jasmin/bin/python" -m pip install --quiet --disable-pip-version-check $requirements ||
            give_up "pip could not install it (see above)"
        exit 0
    done
    give_up "no Python from 3.10 to 3.12 was found to run it on"
)

code=0
kannel || code=1
jasmin || code=1
exit $code
