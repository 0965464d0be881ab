#!/bin/sh
# Fetches ONNX Runtime with its WebGPU provider into DEST, for tests: fetch-onnxruntime-webgpu.sh DEST
# There is one for x86_64 only.
set -eu
[ $# = 1 ] || { echo "usage: $0 DEST" >&2; exit 2; }
if [ "$(uname -m)" != x86_64 ]; then
    echo "fetch-onnxruntime-webgpu: none for $(uname -m)"
    exit 0
fi
version=1.27.0
exec "$(dirname "$0")/from-wheel.sh" "$1" "onnxruntime-webgpu==$version" \
    142eb8bdb803c58117bf64164d201f43180bc87229cac14b590aa4ea79e0f70b \
    "manylinux_2_28_x86_64 manylinux_2_27_x86_64" \
    "onnxruntime/capi/libonnxruntime.so.$version:libonnxruntime.so:882f54a76dde1b6c7e66ed353f29bf167c2a2d4e77875b093205074b31d2c7f4"
