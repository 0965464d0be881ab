#!/bin/sh
# Fuzz each target with stable Rust and gcc: ./fuzz/run.sh SECONDS [TARGET ...]
#
# Needs `cargo install cargo-fuzz --locked`. RUSTC_BOOTSTRAP lets the stable compiler count branches.
# Sanitizers need a nightly compiler, and find little in a program with almost no unsafe code.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?usage: $0 SECONDS [TARGET ...]}
shift
[ $# -gt 0 ] || set -- manifest bank onnx picture
command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 2; }
export RUSTC_BOOTSTRAP=1
for target in "$@"; do
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run -s none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1
done
