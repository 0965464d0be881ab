#!/bin/sh
# Dumps the searches of real packages for benchmarks: dump-searches.sh WEAKREST DATA FOLDER
set -eu
binary=$1 data=$2 folder=$3
mkdir -p "$folder/pictures/bottle" "$folder/pictures/mtd"
# Two pictures of each kind, good ones and defects.
for kind in "$data"/mvtec_ad/bottle/test/*; do
	for picture in $(ls "$kind" | head -n 2); do
		cp "$kind/$picture" "$folder/pictures/bottle/$(basename "$kind")-$picture"
	done
done
for kind in "$data"/mtd/magnetic_tile/test/*; do
	for picture in $(ls "$kind" | head -n 2); do
		cp "$kind/$picture" "$folder/pictures/mtd/$(basename "$kind")-$picture"
	done
done
dump() {
	name=$1 good=$2 size=$3
	package=$folder/$name-$size.weakrest
	[ -d "$package" ] || "$binary" enroll --quality fast --images "$good" --output "$package" --size "$size" --any-size >/dev/null
	for k in 32 64; do
		"$binary" bench "$package" --images "$folder/pictures/$name" -k $k --dump "$folder/$name-$size-$k.safetensors"
	done
}
for size in 256 512; do
	dump bottle "$data/mvtec_ad/bottle/train/good" $size
	dump mtd "$data/mtd/magnetic_tile/train/good" $size
done
