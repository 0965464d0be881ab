#!/bin/sh
# Enrolls every category of a folder in MVTec layout and evaluates it on its test pictures.
# Usage: demo.sh DATA OUTPUT [arguments of weakrest enroll]
set -eu
[ $# -ge 2 ] || { echo "usage: demo.sh DATA OUTPUT [ARGUMENT...]" >&2; exit 2; }
data=${1%/}; output=$2; shift 2
weakrest=target/release/weakrest

[ -d "$data" ] || { echo "demo: there is no folder $data" >&2; exit 2; }
mkdir -p "$output"
if [ -d "$data/train/good" ]; then
    categories=$data
else
    categories=$(find "$data" -mindepth 1 -maxdepth 1 -type d | sort)
fi
first=
echo "$categories" | { while IFS= read -r category; do
    [ -d "$category/train/good" ] || continue
    package=$output/$(basename "$category").weakrest
    "$weakrest" enroll --images "$category/train/good" --output "$package" --overwrite "$@"
    echo
    first=${first:-$package}
done
[ -n "$first" ] || { echo "demo: $data has no CATEGORY/train/good with pictures" >&2; exit 2; }
"$weakrest" evaluate --dataset "$data" --packages "$output" --verdicts --report "$output/report.html"
cat <<TEXT

Open $output/report.html in a browser. Then try:
  $weakrest inspect $first SOME_PICTURES --overlays $output/overlays
  $weakrest package show $first
TEXT
}
