#!/bin/sh
# Builds target/deb/weakrest_VERSION_ARCH.deb: deb.sh ARCH, with ARCH amd64 or arm64, on either or another machine.
# Needs what cross.sh needs, dpkg-deb and readelf. DEBFULLNAME and DEBEMAIL, as Debian's tools read them, name its maintainer.
set -eu
cd "$(dirname "$0")/.."
case ${1:-} in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    *) echo "usage: $0 amd64|arm64" >&2; exit 2 ;;
esac
arch=$1 target=$machine-unknown-linux-gnu
for needed in dpkg-deb:dpkg readelf:binutils; do
    command -v "${needed%:*}" >/dev/null ||
        { echo "deb: ${needed%:*} is missing (on Debian: apt install ${needed#*:})" >&2; exit 1; }
done
floor=2.28
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
maintainer="${DEBFULLNAME:-the weakrest authors} <${DEBEMAIL:-weakrest@localhost}>"
# The same sources give the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

echo "deb: building for $arch"
runtime=target/$target/onnxruntime
tools/fetch-onnxruntime.sh "$machine" "$runtime"
GLIBC=$floor tools/cross.sh "$target" build --locked --release --bin weakrest
binary=target/$target/release/weakrest
tools/glibc-floor.sh $floor "$binary" "$runtime/libonnxruntime.so"
# The manual is the same for every machine, so this one writes it.
manual=target/deb/manual
rm -rf "$manual"
"${CARGO:-cargo}" run --quiet --locked --release --example manual -- "$manual"

root=target/deb/$arch
rm -rf "$root"
doc=$root/usr/share/doc/weakrest
put() { install -D -m "$1" "$2" "$root/$3"; }
packed() { gzip -9n < "$1" > "$root/$2" && chmod 0644 "$root/$2"; }

put 0755 "$binary" usr/bin/weakrest
put 0644 "$runtime/libonnxruntime.so" usr/lib/weakrest/libonnxruntime.so
put 0644 systemd/weakrest.service usr/lib/systemd/system/weakrest.service
put 0644 systemd/60-weakrest.rules usr/lib/udev/rules.d/60-weakrest.rules
put 0644 deb/sysusers.conf usr/lib/sysusers.d/weakrest.conf
put 0644 systemd/weakrest.toml etc/weakrest/weakrest.toml
put 0644 "$manual/weakrest.bash" usr/share/bash-completion/completions/weakrest
put 0644 "$manual/_weakrest" usr/share/zsh/vendor-completions/_weakrest
put 0644 "$manual/weakrest.fish" usr/share/fish/vendor_completions.d/weakrest.fish
install -d -m 0755 "$root/usr/share/man/man1" "$doc/docs" "$doc/models" "$doc/onnxruntime"
for page in "$manual"/*.1; do packed "$page" "usr/share/man/man1/$(basename "$page").gz"; done

put 0644 README.md usr/share/doc/weakrest/README.md
install -m 0644 docs/*.md docs/*.jpg docs/*.svg "$doc/docs/"
install -m 0644 models/README.md "$doc/models/"
put 0644 deb/README.Debian usr/share/doc/weakrest/README.Debian
packed models/LICENSE-efficientnet-lite usr/share/doc/weakrest/models/LICENSE-efficientnet-lite.gz
put 0644 "$runtime/LICENSE" usr/share/doc/weakrest/onnxruntime/LICENSE
packed "$runtime/ThirdPartyNotices.txt" usr/share/doc/weakrest/onnxruntime/ThirdPartyNotices.txt.gz
python3 tools/crate-licenses.py "$target" > target/deb/rust-crates.txt
packed target/deb/rust-crates.txt usr/share/doc/weakrest/rust-crates.txt.gz
{
    cat deb/copyright
    # An empty line is a dot there.
    sed -n '/^Permission/,$p' LICENSE-MIT | sed 's/^$/./; s/^/ /'
} > "$doc/copyright"
{
    printf 'weakrest (%s) unstable; urgency=medium\n\n' "$version"
    sed 's/^/  /' deb/changes
    printf '\n -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -uR -d "@$SOURCE_DATE_EPOCH")"
} > target/deb/changelog
packed target/deb/changelog usr/share/doc/weakrest/changelog.gz
chmod 0644 "$doc/copyright"
put 0644 deb/lintian-overrides usr/share/lintian/overrides/weakrest

mkdir -p "$root/DEBIAN"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)
echo /etc/weakrest/weakrest.toml > "$root/DEBIAN/conffiles"
install -m 0755 deb/postinst deb/prerm deb/postrm "$root/DEBIAN/"
cat > "$root/DEBIAN/control" <<CONTROL
Package: weakrest
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -k -s --apparent-size "$root" | cut -f 1)
Depends: libc6 (>= $floor), libgcc-s1 | libgcc1, libstdc++6 (>= 7), procps, systemd | systemd-standalone-sysusers
Recommends: v4l-utils
Suggests: gpiod, mosquitto
Section: science
Priority: optional
Description: industrial visual inspector that learns from good parts
 weakrest learns what good parts look like from pictures of them, finds
 defects that it has never been shown, says where they are, and fires the
 reject gate in time.
 .
 This package has the program, the service that runs beside a camera, the
 network that inspections start from, and ONNX Runtime for the CPU. The GPU of
 a Jetson or a PC is used through an ONNX Runtime built for it, which the
 configuration names.
CONTROL
chmod 0644 "$root/DEBIAN/control" "$root/DEBIAN/conffiles" "$root/DEBIAN/md5sums"
# Whoever builds may have other habits.
find "$root" -type d -exec chmod 0755 {} +
# Older Debians and Ubuntus read no newer compression.
dpkg-deb --root-owner-group -Zxz --build "$root" "target/deb/weakrest_${version}_$arch.deb"
