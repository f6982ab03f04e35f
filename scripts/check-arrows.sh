#!/usr/bin/env bash
# The arrows of the house, checked on what cargo really links (normal and build dependencies, default features):
#
#   sidecar -> auth, protocols     authd -> auth     cli -> auth     auth and protocols do not know each other
#   loadtest -> auth, protocols, and e2e, which starts the built programs (and knows cli, for a person's home)
#
# Only authd can sign and store, and nothing links OpenSSL or a second crypto provider.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0

# All crates below $1, one name a line. `--edges` says which kinds of dependency count.
crates() {
    cargo tree --locked --package "$1" --edges "${2:-normal,build}" --prefix none --format '{p}' | awk '{ print $1 }' | sort -u
}

# $1 must not depend on any of the rest.
forbid() {
    local from=$1 found name; shift
    found=$(crates "$from")
    for name in "$@"; do
        if grep -qx -- "$name" <<<"$found"; then
            echo "ERROR: $from must not depend on $name:" >&2
            cargo tree --locked --package "$from" --edges normal,build --invert "$name" >&2
            failed=1
        fi
    done
}

# What can sign certificates, store users, or verify a person's second factor: authd's alone.
authd_only=(authd rusqlite libsqlite3-sys yasna rcgen webauthn-rs totp-rs argon2)

forbid auth protocols sidecar cli "${authd_only[@]}"
# opensrv-mysql's reader is unsound: it stands in tests and measurements alone, where an upstream stands.
forbid protocols auth sidecar cli opensrv-mysql "${authd_only[@]}"
forbid sidecar cli opensrv-mysql "${authd_only[@]}"
# It measures the programs as they are: nothing of theirs is linked into it. Its security key is one in software, of a library.
forbid loadtest sidecar authd rusqlite libsqlite3-sys rcgen webauthn-rs
# russh can read PuTTY's key files, whose passphrases go through argon2. tsh never reads one: there is no password in it.
forbid cli protocols sidecar "${authd_only[@]/#argon2/authd}"
forbid authd protocols sidecar cli

# For the whole workspace, tests included.
everything=$(cargo tree --locked --workspace --all-features --edges all --prefix none --format '{p}' | awk '{ print $1 }' | sort -u)
for name in ring openssl openssl-sys native-tls; do
    if grep -qx -- "$name" <<<"$everything"; then
        echo "ERROR: nothing may depend on $name:" >&2
        cargo tree --locked --workspace --all-features --edges all --invert "$name" >&2
        failed=1
    fi
done

[ "$failed" -eq 0 ] && echo "The arrows hold."
exit "$failed"
