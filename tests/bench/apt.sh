# What the installers here share, for Debian and its kin. To be read by a script that has `give_up WHY`.

# Sets $as_root to what makes a command root's, or gives up.
become_root() {
    command -v apt-get >/dev/null || give_up "there is no apt-get here to install it with"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        give_up "only root may install it"
    fi
}

apt_get() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Acquire::Retries=3 -o Acquire::http::Timeout=60 -o DPkg::Lock::Timeout=300 "$@"
}
