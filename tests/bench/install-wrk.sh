#!/bin/sh
# Installs wrk, the load generator of `make bench`, where it is missing and where it may: on Debian and its kin, as root
# or by a sudo that asks for no password. Elsewhere it says what to install, and fails.
set -eu

command -v wrk >/dev/null && exit 0

give_up() {
    echo "The bench needs wrk, which is not installed, and $1. Please install it:"
    echo "    Debian, Ubuntu:  sudo apt-get install wrk"
    echo "    macOS:           brew install wrk"
    exit 1
} >&2

apt_get() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Acquire::Retries=3 -o Acquire::http::Timeout=60 -o DPkg::Lock::Timeout=300 "$@"
}

command -v apt-get >/dev/null || give_up "there is no apt-get here to install it with"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    give_up "only root may install it"
fi

apt_get update || echo "Going on with the package lists that are there."
apt_get install --no-install-recommends wrk || give_up "apt-get could not install it (see above)"
