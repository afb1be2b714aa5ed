#!/bin/sh
# Installs libfuse 3, by which tests/power mounts its file system, where it is missing and where it may: on Debian and its
# kin, as root or by a sudo that asks for no password. Elsewhere on Linux it says what to install, and fails.
set -eu

[ "$(uname -s)" = Linux ] || exit 0 # Only Linux has this FUSE: the tests say so, and are skipped.
command -v fusermount3 >/dev/null && exit 0

give_up() {
    echo "The tests of power cuts need libfuse 3, which is not installed, and $1. Please install it:"
    echo "    Debian, Ubuntu:  sudo apt-get install fuse3"
    exit 1
} >&2

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
. "$here/../bench/apt.sh"

become_root
apt_get update || echo "Going on with the package lists that are there."
apt_get install --no-install-recommends fuse3 || give_up "apt-get could not install it (see above)"
