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

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
. "$here/apt.sh"

become_root
apt_get update || echo "Going on with the package lists that are there."
apt_get install --no-install-recommends wrk || give_up "apt-get could not install it (see above)"
