#!/usr/bin/env bash
# The profile by which releases are built: which of its ways the code takes under load. The compiler lays out and inlines
# what is run accordingly (docs/performance.md has what it brings). It is a part of the tree, so that every release is built by
# the same one, without a database at hand. What has changed since it was taken is built as if there were none.
#
#   scripts/profile.sh flags     compiler flags that use it, for RUSTFLAGS
#   scripts/profile.sh record    takes it anew; `make profile`
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
recorded=$here/profile/release.profdata.gz
target=$here/target/instrumented

case ${1-} in
flags)
    # Cargo knows flags, not what is in the file: another profile has another name.
    unpacked=$here/target/profile-$(sha256sum "$recorded" | cut -c1-16).profdata
    if [ ! -e "$unpacked" ]; then
        mkdir -p "$here/target"
        gzip --decompress --stdout "$recorded" >"$unpacked.$$"
        mv "$unpacked.$$" "$unpacked"
    fi
    echo "-Cprofile-use=$unpacked"
    ;;
record)
    # The compiler's own tool, or Debian's for the same LLVM.
    llvm=$(rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    merge=$(compgen -G "$(rustc --print sysroot)/lib/rustlib/*/bin/llvm-profdata" || command -v "llvm-profdata-$llvm" || true)
    if [ -z "$merge" ]; then
        echo "ERROR: llvm-profdata of LLVM $llvm is missing: rustup component add llvm-tools, or Debian's llvm-$llvm" >&2
        exit 1
    fi
    cd "$here"
    rm -rf "$target/raw"
    # shellcheck disable=SC2086
    RUSTFLAGS="-Cprofile-generate=$target/raw" cargo build --locked $SHIPPED --target-dir "$target" --bin authd --bin sidecar --bin tctl
    # Build scripts and macros were instrumented too: what they have left is of no interest.
    rm -rf "$target/raw"
    # With our own features, and not those of the programs that are measured; it looks for those beside itself.
    cargo build --locked --release -p loadtest --bins
    cp target/release/loadtest "$target/release/"
    load() { "$target/release/loadtest" run --no-peers --ways sidecar,sidecar-unix --seconds 1 --rounds 2 "$@"; }
    load --one-core --scenarios simple,prepared --protocols postgres,mysql --clients 1,8
    load --one-core --scenarios extended,mixed --protocols postgres --clients 8
    load --scenarios connect,download --protocols postgres --clients 8
    load --one-core --scenarios issue --protocols postgres --clients 8
    # Only what was run at all: the rest says nothing, and is four fifths of it.
    "$merge" merge --sparse --output "$target/release.profdata" "$target"/raw/*.profraw
    mkdir -p "$(dirname "$recorded")"
    gzip --best --no-name --stdout "$target/release.profdata" >"$recorded"
    ls -l "$recorded"
    ;;
*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 1
    ;;
esac
