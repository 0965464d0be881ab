#!/bin/sh
# Runs the aarch64 tests on an emulated processor: cross-test.sh [CPU...]
# First all tests on a processor like a Jetson Orin's (cortex-a76). Then the tests of the vector instructions and one
# of the whole program on an old processor without dot products (cortex-a57). Not on "max": ONNX Runtime does not know
# it and prints a warning into the output that the tests read. Needs what cross.sh needs, and Debian for the emulator
# and the C library.
set -eu
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
kept=$PWD/target/cross
skipped=$PWD/target/skipped.txt
native=$PWD/target/release/weakrest
. tools/debian.sh

# Debian 11's glibc is JetPack 5's, the oldest one that a board has.
root=$kept/glibc-2.31
if [ ! -d "$root" ]; then
    echo "cross-test: getting the C library of Debian 11 for aarch64"
    rm -rf "$root.new"
    debian_lists "$root.new" arm64 bullseye
    debian_unpack "$root.new" libc6 libgcc-s1 libstdc++6
    mv "$root.new" "$root"
fi
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
if [ -z "$qemu" ]; then
    qemu=$kept/qemu/root/usr/bin/qemu-aarch64
    if [ ! -x "$qemu" ]; then
        echo "cross-test: getting the emulator"
        rm -rf "$kept/qemu.new" "$kept/qemu"
        debian_lists "$kept/qemu.new" "$(dpkg --print-architecture)" bookworm-backports
        debian_unpack "$kept/qemu.new" qemu-user
        mv "$kept/qemu.new" "$kept/qemu"
    fi
fi
"$qemu" --version | head -n 1
tools/fetch-onnxruntime.sh aarch64 "target/$target/onnxruntime"

export QEMU="$qemu" QEMU_LD_PREFIX="$root/root"
export ORT_DYLIB_PATH="$PWD/target/$target/onnxruntime/libonnxruntime.so"
export WEAKREST_OTHER_PROCESSOR="$native"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$PWD/tools/emulate.sh"
: > "$skipped"
# Whole data sets would take an emulated processor hours.
unset WEAKREST_DATA

# What an emulated program cannot do, and why: NAME REASON
cannot=$(grep -v '^#' tools/cross-test.skip)
skips=$(echo "$cannot" | sed 's/^\([^ ]*\) .*/--skip \1/')

failed=
# run CPU CARGO_ARG... -- TEST_NAME...
run() {
    export QEMU_CPU="$1"
    shift
    echo "cross-test: on $QEMU_CPU"
    started=$(date +%s)
    # shellcheck disable=SC2086 # words
    tools/cross.sh $target test --locked --quiet --no-fail-fast "$@" $skips || failed="$failed $QEMU_CPU"
    echo "cross-test: $QEMU_CPU took $(($(date +%s) - started)) s"
}
tools/cross.sh $target test --locked --no-run --package posfar --package weakrest --lib --tests
[ $# -gt 0 ] || set -- cortex-a76 cortex-a57
for cpu in "$@"; do
    case $cpu in
        cortex-a57)
            run "$cpu" --package posfar --package weakrest --lib --test posfar --test cli -- posfar search bank coreset retrieval processors ;;
        *) run "$cpu" --package posfar --package weakrest --lib --tests -- ;;
    esac
done
echo
echo "Skipped:"
{ sort -u "$skipped"; echo "$cannot" | sed 's/^\([^ ]*\) /SKIP \1: /'; } | sed 's/^/  /'
[ -z "$failed" ] || { echo "cross-test: failed on$failed" >&2; exit 1; }
echo "cross-test: all passed"
