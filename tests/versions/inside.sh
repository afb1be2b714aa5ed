#!/bin/sh
# Runs a program with another system's /usr in the place of the machine's, and becomes it: sh inside.sh ROOT PROGRAM [ARGUMENT...]
set -eu

# The machine may name a language that the other system does not have.
export LC_ALL=C

user=--map-root-user
if [ "$(id -u)" = 0 ]; then
    user=
fi
# shellcheck disable=SC2016,SC2086
exec unshare --mount $user sh -c 'mount --bind "$0/usr" /usr && exec "$@"' "$@"
