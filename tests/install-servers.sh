#!/bin/sh
# Installs the Redis and the RabbitMQ that the tests start, where they are missing and where it may: on Debian and its
# kin, as root or by a sudo that asks for no password. Elsewhere it says what to install, and fails.
set -eu

root=${SERVERS_ROOT:-} # What all paths begin with: set by the test of this script, to have a machine of its own.

# Sets $packages to what is missing. tests/support/servers.py looks in the same places.
look() {
    packages=
    command -v redis-server >/dev/null || packages="redis-server"
    for program in \
        "$(command -v rabbitmq-server)" \
        "$root/usr/lib/rabbitmq/bin/rabbitmq-server" \
        "$root/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server" \
        "$root/usr/local/opt/rabbitmq/sbin/rabbitmq-server"; do
        [ -n "$program" ] && [ -x "$program" ] && return
    done
    packages="$packages rabbitmq-server"
}

give_up() {
    echo "The tests need servers that are not installed, and $1. Please install them:"
    echo "    Debian, Ubuntu:  sudo apt-get install redis-server rabbitmq-server"
    echo "    macOS:           brew install redis rabbitmq"
    exit 1
} >&2

apt_get() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Acquire::Retries=3 -o Acquire::http::Timeout=60 -o DPkg::Lock::Timeout=300 "$@"
}

install() {
    apt_get update || echo "Going on with the package lists that are there."
    # shellcheck disable=SC2086 # One word for each package.
    apt_get install --no-install-recommends $packages
}

look
[ -n "$packages" ] || exit 0

command -v apt-get >/dev/null || give_up "there is no apt-get here to install them with"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    give_up "only root may install them"
fi

# The tests start servers of their own: keep the packages from starting the system's.
policy="$root/usr/sbin/policy-rc.d"
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

tries=4
until install; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || give_up "apt-get could not install them (see above)"
    echo "That did not work; trying again."
    sleep 10
done

if command -v systemctl >/dev/null; then
    # shellcheck disable=SC2086
    $as_root systemctl disable --quiet $packages || true # Nor when the machine starts next.
fi

look
[ -z "$packages" ] || give_up "apt-get installed them where they were not found:$packages"
