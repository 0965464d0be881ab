#!/bin/sh
# Fetches three photographs of surfaces for the demo: fetch-photographs.sh DEST
# They are sample pictures of scikit-image; its skimage/data/_fetchers.py says of each: "licensed under the Creative
# Commons CC0 License".
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DEST" >&2; exit 2; }
exec "$(dirname "$0")/from-wheel.sh" "$1" scikit-image==0.25.2 \
    24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641 \
    "manylinux2014_x86_64 manylinux_2_17_x86_64" \
    skimage/data/brick.png:brick.png:7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf \
    skimage/data/grass.png:grass.png:b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89 \
    skimage/data/gravel.png:gravel.png:c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12
