#!/bin/sh
# The network's features of a product's pictures: dump-features.sh WEAKREST PRODUCT FOLDER
# FOLDER gets good.safetensors (all good parts) and test.safetensors (the first four pictures of each kind).
set -eu
binary=$1 product=$2 folder=$3
export ORT_DYLIB_PATH="${ORT_DYLIB_PATH:-$PWD/target/onnxruntime/libonnxruntime.so}"
rm -rf "$folder"
mkdir -p "$folder/pictures"
for kind in "$product"/test/*; do
	for picture in $(ls "$kind" | head -n 4); do
		cp "$kind/$picture" "$folder/pictures/$(basename "$kind")-$picture"
	done
done
"$binary" enroll --quality fast --images "$product/train/good" --output "$folder/package.weakrest" >/dev/null
"$binary" bench "$folder/package.weakrest" --images "$product/train/good" --dump-features "$folder/good.safetensors"
"$binary" bench "$folder/package.weakrest" --images "$folder/pictures" --dump-features "$folder/test.safetensors"
