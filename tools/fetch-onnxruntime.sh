#!/bin/sh
# Fetches ONNX Runtime for the CPU into DEST: fetch-onnxruntime.sh [ARCH] DEST
# ARCH is x86_64 or aarch64, by default this machine's. A device with a GPU uses the build that fits its drivers.
set -eu
case $# in
    1) arch=$(uname -m) dest=$1 ;;
    2) arch=$1 dest=$2 ;;
    *) echo "usage: $0 [ARCH] DEST" >&2; exit 2 ;;
esac
case $arch in
    x86_64)
        wheel=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
        library=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;;
    aarch64)
        wheel=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
        library=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;;
    *) echo "fetch-onnxruntime: no ONNX Runtime is known for $arch, only for x86_64 and aarch64" >&2; exit 2 ;;
esac
version=1.31.1
# The library comes last: who finds it finds its licenses beside it.
exec "$(dirname "$0")/from-wheel.sh" "$dest" "onnxruntime==$version" "$wheel" \
    "manylinux_2_28_$arch manylinux_2_27_$arch" \
    onnxruntime/LICENSE:LICENSE:2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c \
    onnxruntime/ThirdPartyNotices.txt:ThirdPartyNotices.txt:143764b952fdb1a7c69ce653bfba74a7744d6a8a573bfb73e235fba356c83de3 \
    "onnxruntime/capi/libonnxruntime.so.$version:libonnxruntime.so:$library"
