#!/bin/sh
# Builds weakrest_VERSION_ARCH.deb and weakrest-workshop_VERSION_ARCH.deb in target/deb: deb.sh ARCH. ARCH is amd64
# or arm64. Needs what cross.sh needs, dpkg-deb and readelf. DEBFULLNAME and DEBEMAIL name the maintainer.
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

runtime=target/$target/onnxruntime
built=target/$target/ship/weakrest
tools/fetch-onnxruntime.sh "$machine" "$runtime"
# The same name is built twice: the workshop's program, then the device's.
for program in workshop device; do
    echo "deb: building the $program's program for $arch"
    [ $program = workshop ] && features= || features=--no-default-features
    # shellcheck disable=SC2086 # one option, or none
    GLIBC=$floor tools/cross.sh "$target" build --locked --profile ship --bin weakrest $features
    install -D -m 0755 "$built" "target/deb/programs/$arch/$program"
    # shellcheck disable=SC2086
    python3 tools/crate-licenses.py "$target" $features > "target/deb/$program-crates.txt"
done
programs=target/deb/programs/$arch
tools/glibc-floor.sh $floor "$programs/device" "$programs/workshop" "$runtime/libonnxruntime.so"
# The manual is the same for every machine, so this one writes it.
manual=target/deb/manual
rm -rf "$manual"
"${CARGO:-cargo}" run --quiet --locked --example manual -- "$manual"

rm -rf "target/deb/$arch"
# begin PACKAGE: what follows goes into it.
begin() {
    package=$1 root=target/deb/$arch/$1
    doc=$root/usr/share/doc/$package
    mkdir -p "$doc" "$root/DEBIAN" "$root/usr/share/man/man1"
}
put() { install -D -m "$1" "$2" "$root/$3"; }
packed() { mkdir -p "$root/$(dirname "$2")" && gzip -9n < "$1" > "$root/$2" && chmod 0644 "$root/$2"; }
# finish PROGRAM DEPENDS: adds what every package has, and builds it.
finish() {
    packed "target/deb/$1-crates.txt" "usr/share/doc/$package/rust-crates.txt.gz"
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
    packed target/deb/changelog "usr/share/doc/$package/changelog.gz"
    chmod 0644 "$doc/copyright"
    put 0644 "deb/$package.lintian-overrides" "usr/share/lintian/overrides/$package"
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    {
        echo "Package: $package"
        echo "Version: $version"
        echo "Architecture: $arch"
        echo "Maintainer: $maintainer"
        echo "Installed-Size: $(du -k -s --apparent-size "$root" | cut -f 1)"
        echo "Depends: $2"
        echo "Section: science"
        echo "Priority: optional"
        cat "deb/$package.control"
    } > "$root/DEBIAN/control"
    find "$root/DEBIAN" -type f ! -perm -0100 -exec chmod 0644 {} +
    # Whoever builds may have other habits.
    find "$root" -type d -exec chmod 0755 {} +
    # Older Debians and Ubuntus read no newer compression.
    dpkg-deb --root-owner-group -Zxz --build "$root" "target/deb/${package}_${version}_$arch.deb"
}

begin weakrest
put 0755 "$programs/device" usr/bin/weakrest
put 0644 "$runtime/libonnxruntime.so" usr/lib/weakrest/libonnxruntime.so
put 0644 systemd/weakrest.service usr/lib/systemd/system/weakrest.service
# One service for each further camera: the same unit with the instance's name in its paths.
sed -e 's|^Description=.*|& (%i)|' -e 's|/etc/weakrest/weakrest.toml|/etc/weakrest/%i.toml|' \
    -e 's,^\(State\|Cache\)Directory=weakrest$,&/%i,' systemd/weakrest.service > target/deb/weakrest@.service
put 0644 target/deb/weakrest@.service usr/lib/systemd/system/weakrest@.service
put 0644 systemd/60-weakrest.rules usr/lib/udev/rules.d/60-weakrest.rules
put 0644 deb/sysusers.conf usr/lib/sysusers.d/weakrest.conf
put 0644 systemd/weakrest.toml etc/weakrest/weakrest.toml
# Shells complete the workshop's commands as well, which the device's program passes on.
put 0644 "$manual/weakrest.bash" usr/share/bash-completion/completions/weakrest
put 0644 "$manual/_weakrest" usr/share/zsh/vendor-completions/_weakrest
put 0644 "$manual/weakrest.fish" usr/share/fish/vendor_completions.d/weakrest.fish
for page in "$manual"/*.1; do
    name=$(basename "$page")
    case $name in
        weakrest-evaluate.1 | weakrest-label.1 | weakrest-residuals.1) ;;
        *) packed "$page" "usr/share/man/man1/$name.gz" ;;
    esac
done
put 0644 README.md usr/share/doc/weakrest/README.md
install -d -m 0755 "$doc/docs" "$doc/models"
install -m 0644 docs/*.md docs/*.jpg docs/*.svg "$doc/docs/"
install -m 0644 models/README.md "$doc/models/"
put 0644 deb/README.Debian usr/share/doc/weakrest/README.Debian
packed models/LICENSE-efficientnet-lite usr/share/doc/weakrest/models/LICENSE-efficientnet-lite.gz
put 0644 "$runtime/LICENSE" usr/share/doc/weakrest/onnxruntime/LICENSE
packed "$runtime/ThirdPartyNotices.txt" usr/share/doc/weakrest/onnxruntime/ThirdPartyNotices.txt.gz
echo /etc/weakrest/weakrest.toml > "$root/DEBIAN/conffiles"
install -m 0755 deb/postinst deb/prerm deb/postrm "$root/DEBIAN/"
finish device "libc6 (>= $floor), libgcc-s1 | libgcc1, libstdc++6 (>= 7), procps, systemd | systemd-standalone-sysusers"

begin weakrest-workshop
put 0755 "$programs/workshop" usr/lib/weakrest/weakrest-workshop
for name in evaluate label residuals; do
    packed "$manual/weakrest-$name.1" "usr/share/man/man1/weakrest-$name.1.gz"
done
# A newer weakrest may be installed alone: nothing may keep a line from its upgrade.
finish workshop "weakrest (>= $version), libc6 (>= $floor), libgcc-s1 | libgcc1"
