#!/bin/sh
# Fails if a binary needs a newer C library than FLOOR: glibc-floor.sh FLOOR FILE...
set -eu
[ $# -ge 2 ] || { echo "usage: $0 FLOOR FILE..." >&2; exit 2; }
floor=$1
shift
command -v readelf >/dev/null || { echo "$0: readelf is missing (on Debian: apt install binutils)" >&2; exit 1; }
for file in "$@"; do
    versions=$(LC_ALL=C readelf --version-info --wide "$file")
    needed=$(echo "$versions" | grep -o 'GLIBC_[0-9][0-9.]*' | cut -d_ -f2 | sort -Vu | tail -n 1)
    # A file without any is none that this looks at, such as a static one.
    [ -n "$needed" ] || { echo "$file: names no version of glibc" >&2; exit 1; }
    if [ "$(printf '%s\n' "$needed" "$floor" | sort -V | tail -n 1)" != "$floor" ]; then
        echo "$file: needs glibc $needed, but must run with $floor" >&2
        exit 1
    fi
    echo "$file: needs glibc $needed ($floor is allowed)"
done
