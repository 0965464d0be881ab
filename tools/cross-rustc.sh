#!/bin/sh
# Fetches Debian's newest Rust with the standard library of aarch64: cross-rustc.sh DEST
# For a machine whose own Rust cannot get that library.
# DEST/rustc is the compiler. Installs nothing and needs no root; for Debian on x86-64.
set -eu
[ $# = 1 ] || { echo "usage: $0 DEST" >&2; exit 2; }
[ -x "$1/rustc" ] && exit 0
. "$(dirname "$0")/debian.sh"

new=$1.new
rm -rf "$new" "$1"
echo "cross: taking Debian's Rust with the standard library of aarch64"
debian_lists "$new" "amd64 arm64"
# Debian keeps two: the release's own, and a newer one that its browsers are built with.
for suffix in -web ""; do
    std=$(debian_depends "$new" "libstd-rust$suffix-dev" libstd-rust)
    [ -z "$std" ] || break
done
[ -n "$std" ] || { echo "cross: this Debian has no Rust" >&2; exit 1; }
dev=libstd-rust$suffix-dev
# shellcheck disable=SC2046 # one name, or none
debian_unpack "$new" "rustc$suffix" "$std" $(debian_depends "$new" "$std" libllvm) "$dev" "$dev:arm64"
cat > "$new/rustc" <<'RUSTC'
#!/bin/sh
usr=$(dirname "$(realpath "$0")")/root/usr
LD_LIBRARY_PATH=$usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$usr/bin/rustc" "$@"
RUSTC
chmod +x "$new/rustc"
mv "$new" "$1"
"$1/rustc" --version
