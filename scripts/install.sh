#!/usr/bin/env bash
# Installs what is missing: `scripts/install.sh cc postgresql mariadb openssh ssh-clients sysbench browser clients nextest`. Nothing
# is done for what is there already.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)

apt_updated=

# Installs Debian packages, as root or through sudo.
apt() {
    local reason=$1; shift
    if ! command -v apt-get >/dev/null; then
        echo "ERROR: $reason is missing, and this system has no apt-get. Please install it by hand." >&2
        exit 1
    fi
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "ERROR: $reason is missing. As root: apt-get install $*" >&2
            exit 1
        fi
        root=(sudo)
    fi
    echo "Installing $* ($reason is missing)"
    if [ -z "$apt_updated" ]; then
        "${root[@]}" apt-get update --quiet=2
        apt_updated=yes
    fi
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$@" >/dev/null
}

# The server's own programs are off the search path on Debian.
has_postgresql() {
    local program
    for program in initdb postgres; do
        command -v "$program" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$program" >/dev/null || return 1
    done
    for program in psql pg_dump pgbench; do
        command -v "$program" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$program" >/dev/null || return 1
    done
}

# The server may be off an ordinary user's search path.
has_mariadb() {
    local program
    for program in mariadbd mariadb-install-db mariadb mariadb-dump mariadb-slap mariadb-binlog; do
        command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || return 1
    done
}

has_browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null
}

# The server may be off an ordinary user's search path; rsync and git are what the tests
# copy with, xauth what `ssh -X` asks.
has_openssh() {
    local program
    for program in sshd ssh scp sftp ssh-keygen ssh-agent ssh-add xauth rsync git; do
        command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || return 1
    done
}

# Clients that are not OpenSSH's: a file system by SFTP, and the C library that others are built on.
has_ssh_clients() {
    command -v sshfs >/dev/null && command -v fusermount3 >/dev/null && pkg-config --exists libssh 2>/dev/null
}

# Clients in other languages, the databases' and SSH's, pinned below e2e/clients, installed below target/clients. A stamp
# names what was installed: another version in a pinned list installs anew.
clients() {
    local pinned=$here/e2e/clients installed=$here/target/clients stamp
    stamp=$(cat "$pinned/python/requirements.txt" "$pinned/node/package-lock.json" | sha256sum)
    if [ "$(cat "$installed/stamp" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt "Python with venv" python3 python3-venv
    command -v node >/dev/null && command -v npm >/dev/null || apt "Node.js with npm" nodejs npm
    # mysqlclient is built here, against MariaDB's C library.
    command -v cc >/dev/null || apt "a C compiler" gcc libc6-dev
    pkg-config --exists libmariadb 2>/dev/null || apt "MariaDB's C library" libmariadb-dev pkg-config
    python3 -c 'import os, sysconfig; exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        apt "Python's headers" python3-dev
    echo "Installing the clients of Python and Node.js below target/clients"
    mkdir -p "$installed/node"
    python3 -m venv --clear "$installed/python"
    "$installed/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$pinned/python/requirements.txt"
    cp "$pinned/node/package.json" "$pinned/node/package-lock.json" "$installed/node/"
    (cd "$installed/node" && npm ci --no-audit --no-fund --loglevel=error)
    echo "$stamp" >"$installed/stamp"
}

for wanted in "$@"; do
    case $wanted in
    cc)
        command -v cc >/dev/null || apt "a C compiler" gcc libc6-dev
        # Security keys on USB are found through udev.
        pkg-config --exists libudev 2>/dev/null || apt "libudev" libudev-dev pkg-config
        command -v setsid >/dev/null && command -v setpriv >/dev/null || apt "util-linux" util-linux
        ;;
    postgresql) has_postgresql || apt "PostgreSQL" postgresql postgresql-client ;;
    mariadb) has_mariadb || apt "MariaDB" mariadb-server mariadb-client ;;
    browser) has_browser || apt "Chromium with its driver" chromium chromium-driver ;;
    mmdebstrap) command -v mmdebstrap >/dev/null || apt "mmdebstrap" mmdebstrap ;;
    ssh-clients) has_ssh_clients || apt "sshfs, or libssh's headers," sshfs libssh-dev pkg-config ;;
    openssh) has_openssh || apt "OpenSSH" openssh-server openssh-client xauth rsync git ;;
    sysbench) command -v sysbench >/dev/null || apt "sysbench" sysbench ;;
    clients) clients ;;
    cargo-fuzz) cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz ;;
    nextest) cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest ;;
    *)
        echo "ERROR: do not know how to install $wanted" >&2
        exit 1
        ;;
    esac
done
