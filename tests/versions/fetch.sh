#!/bin/sh
# Fetches the servers of another suite of Debian into a folder, and touches nothing else on the machine:
#     sh tests/versions/fetch.sh SUITE FOLDER PACKAGE...
# FOLDER/programs then has programs by the names of the packages' own, which see the suite's /usr in the place of the
# machine's. To run one takes root, or the right to make user namespaces. Needs a Debian, whose mirror it takes.
set -eu

suite=$1 folder=$2
shift 2
if [ -e "$folder/complete" ]; then
    exit 0
fi
rm -rf "$folder"
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/root/usr/bin" "$folder/programs"
folder=$(cd "$folder" && pwd)

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | grep -v security | head -n 1)
if [ -z "$mirror" ]; then
    echo "This machine's apt knows no mirror of Debian." >&2
    exit 1
fi
key=/usr/share/keyrings/debian-archive-keyring.gpg
{
    echo "deb [signed-by=$key] $mirror $suite main"
    case $suite in
    # Has only what is newer than in the suite that it is for.
    *-backports) echo "deb [signed-by=$key] $mirror ${suite%-backports} main" ;;
    esac
} >"$folder/sources.list"

# An apt with nothing installed, so that all that the packages need comes with them.
: >"$folder/status"
apt() {
    apt-get -q -y -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$folder/lists" \
        -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=root \
        -o Acquire::Retries=3 -o Acquire::http::Timeout=60 "$@"
}
# What the programs' own scripts call: an empty system has not even a shell.
set -- "$@" coreutils dash grep hostname mawk sed

apt update
case $suite in
*-backports) apt install --download-only --no-install-recommends --target-release "$suite" "$@" ;;
*) apt install --download-only --no-install-recommends "$@" ;;
esac

for part in bin sbin lib lib64; do
    mkdir -p "$folder/root/usr/$part"
    ln -s "usr/$part" "$folder/root/$part"
done
for package in "$folder"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C "$folder/root"
done
rm -rf "$folder/cache" "$folder/lists"
# What the packages' own scripts would have made.
[ -e "$folder/root/usr/bin/awk" ] || ln -s mawk "$folder/root/usr/bin/awk"
[ -e "$folder/root/usr/bin/sh" ] || ln -s dash "$folder/root/usr/bin/sh"

for program in redis-server valkey-server redict-server epmd rabbitmq-server rabbitmqctl; do
    for place in /usr/lib/rabbitmq/bin /usr/bin; do
        [ -e "$folder/root$place/$program" ] || continue
        case $program in
        *-server) name=$(echo "$program" | sed 's/^\(valkey\|redict\)-/redis-/') ;;
        *) name=$program ;;
        esac
        printf '#!/bin/sh\nexec sh "%s" "%s" "%s" "$@"\n' "$(cd "$(dirname "$0")" && pwd)/inside.sh" \
            "$folder/root" "$place/$program" >"$folder/programs/$name"
        chmod 755 "$folder/programs/$name"
        break
    done
done
touch "$folder/complete"
