#!/bin/sh
# Runs cargo for another machine or an older C library: cross.sh TARGET build|test ARG...
# The result needs glibc GLIBC (default 2.28) or newer. Tools are kept in target/cross. They come from the package
# registries of this machine's pip and apt.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 TARGET build|test ARG..." >&2; exit 2; }
target=$1 command=$2
shift 2
tools=$(dirname "$0")
kept=$(realpath -m "$tools/../target/cross")
fail() { echo "cross: $*" >&2; exit 1; }

# Zig's compiler links against any glibc, and needs neither a cross compiler nor the target's root file system.
zig=$kept/zig
if ! cmp -s "$tools/cross-requirements.txt" "$zig/requirements.txt"; then
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 with pip is needed (on Debian: apt install python3-pip)"
    rm -rf "$zig" "$zig.new"
    echo "cross: getting Zig, which links against any glibc"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --requirement "$tools/cross-requirements.txt" --target "$zig.new" || fail "cannot get Zig"
    cp "$tools/cross-requirements.txt" "$zig.new/requirements.txt"
    mv "$zig.new" "$zig"
fi
export CARGO_ZIGBUILD_ZIG_PATH="$zig/ziglang/zig"

# The standard library of the target: rustup's where it is installed, Debian's otherwise.
folder=$("${RUSTC:-rustc}" --print target-libdir --target "$target")
if [ -z "$(find "$folder" -name 'libstd-*.rlib' 2>/dev/null)" ]; then
    advice="this Rust has no standard library for it; run: rustup target add $target"
    [ "$target-$(uname -m)" = aarch64-unknown-linux-gnu-x86_64 ] || fail "$target: $advice"
    "$tools/cross-rustc.sh" "$kept/rustc" || fail "$target: $advice"
    export RUSTC="$kept/rustc/rustc"
fi
[ "$command" != build ] || command=zigbuild
exec "$zig/bin/cargo-zigbuild" "$command" --target "$target.${GLIBC:-2.28}" "$@"
