#!/bin/sh
# Installs, upgrades, removes and purges the Debian packages in a root of its own, as `make deb-test` does:
# run.sh [PACKAGE]. The workshop's package lies beside it.
# Needs root, and Debian with mmdebstrap; says SKIP without.
set -eu
cd "$(dirname "$0")/../.."
skip() { echo "SKIP deb-test: $*"; mkdir -p target; echo "SKIP deb-test: $*" >> target/skipped.txt; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can make a root file system of another user's files"
for needed in mmdebstrap:mmdebstrap unshare:util-linux dpkg-deb:dpkg; do
    command -v "${needed%:*}" >/dev/null || skip "${needed%:*} is missing (on Debian: apt install ${needed#*:})"
done
# What is mounted goes with the process.
[ -n "${DEB_TEST_OWN_MOUNTS:-}" ] || DEB_TEST_OWN_MOUNTS=1 exec unshare --mount "$PWD/tests/deb/run.sh" "$@"
arch=$(dpkg --print-architecture)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
package=${1:-target/deb/weakrest_${version}_$arch.deb}
workshop=$(dirname "$package")/weakrest-workshop_${version}_$arch.deb
[ -e "$package" ] && [ -e "$workshop" ] || { echo "deb-test: there is no $package, or no $workshop; run: make deb" >&2; exit 1; }

# A small Debian with systemd, kept between runs.
base=target/deb-test/bookworm-$arch.tar
if [ ! -e "$base" ]; then
    mkdir -p target/deb-test
    echo "deb-test: making a small Debian"
    # Its name must end in .tar, or it becomes a folder.
    unfinished=target/deb-test/unfinished-$arch.tar
    mmdebstrap --quiet --arch="$arch" --variant=minbase --include=systemd,systemd-sysv,udev,procps,libstdc++6,man-db bookworm "$unfinished" ||
        skip "cannot make a Debian"
    mv "$unfinished" "$base"
fi
work=$(mktemp -d)
root=$work/root
trap 'umount "$root/proc" "$root/sys" 2>/dev/null; rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$root"
tar -C "$root" -xf "$base"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sys "$root/sys"

checks=0
# check WHAT COMMAND...: fails the test unless the command works.
check() {
    what=$1
    shift
    if "$@" > "$work/log" 2>&1; then
        checks=$((checks + 1))
    else
        echo "FAIL deb-test: $what" >&2
        cat "$work/log" >&2
        exit 1
    fi
}
not() { ! "$@"; }
inside() { chroot "$root" "$@"; }
# As the service runs: no root, and only its groups.
as_service() { inside setpriv --reuid weakrest --regid weakrest --init-groups --no-new-privs "$@"; }
owner_is() { [ "$(inside stat -c '%U:%G %a' "$2")" = "$1" ]; }
file_says() { grep -q "$1" "$root$2"; }
# install PACKAGE
install_package() {
    cp "$1" "$root/tmp/package.deb"
    inside env DEBIAN_FRONTEND=noninteractive dpkg --install --force-confdef --force-confold /tmp/package.deb
}

# The next version, with another example configuration.
dpkg-deb -R "$package" "$work/next"
next=$version+next
sed -i "s/^Version: .*/Version: $next/" "$work/next/DEBIAN/control"
echo "# New in this version." >> "$work/next/etc/weakrest/weakrest.toml"
dpkg-deb --root-owner-group -Znone --build "$work/next" "$work/next.deb" >/dev/null

check "installs" install_package "$package"
check "dpkg finds every file as packaged" inside dpkg --verify weakrest
for path in /usr/bin/weakrest /usr/lib/weakrest/libonnxruntime.so /etc/weakrest/weakrest.toml \
    /usr/lib/systemd/system/weakrest.service /usr/lib/systemd/system/weakrest@.service /usr/lib/udev/rules.d/60-weakrest.rules /usr/lib/sysusers.d/weakrest.conf \
    /usr/share/bash-completion/completions/weakrest /usr/share/zsh/vendor-completions/_weakrest \
    /usr/share/fish/vendor_completions.d/weakrest.fish; do
    check "has $path" test -s "$root$path"
done
check "the user exists" inside id weakrest
for group in video gpio; do
    check "the user is in $group" sh -c "chroot '$root' id -nG weakrest | grep -qw $group"
done
check "the state folder is the user's" owner_is "weakrest:weakrest 750" /var/lib/weakrest
check "the cache folder is the user's" owner_is "weakrest:weakrest 750" /var/cache/weakrest
check "the service is not enabled" sh -c "[ \"\$(chroot '$root' systemctl is-enabled weakrest)\" = disabled ]"
check "the unit can be read" inside systemd-analyze verify weakrest.service
check "the unit of a further camera can be read" inside systemd-analyze verify weakrest@left.service
for line in 'ExecStart=/usr/bin/weakrest run --config /etc/weakrest/%i.toml' StateDirectory=weakrest/%i \
    CacheDirectory=weakrest/%i; do
    check "the unit of a further camera has $line" file_says "^$line\$" /usr/lib/systemd/system/weakrest@.service
done
has_page() { check "has a manual page $1" sh -c "chroot '$root' man --warnings -E UTF-8 $1 2>&1 | grep -qi '^NAME'"; }
for page in weakrest weakrest-enroll weakrest-run weakrest-check; do
    has_page $page
done
check "bash reads the completions" inside bash -n /usr/share/bash-completion/completions/weakrest

# The program finds its library and its network without the sources.
inside weakrest check > "$work/check" || { cat "$work/check" >&2; exit 1; }
check "finds its ONNX Runtime" grep -q "/lib/weakrest/libonnxruntime.so" "$work/check"
check "runs its network" grep -q "backbone .* runs" "$work/check"
# What a root enrolls, the service can read.
mkdir "$root/tmp/good"
python3 - "$root/tmp/good" <<'PYTHON'
import pathlib, random, sys
random.seed(1)
for i in range(12):
    pixels = bytes(min(255, 60 + x + y + random.randrange(8)) for y in range(64) for x in range(64) for _ in range(3))
    header = (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = (40).to_bytes(4, "little") + (64).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
    pathlib.Path(sys.argv[1], f"{i:02}.bmp").write_bytes(b"BM" + header + info + pixels)
PYTHON
product=/var/lib/weakrest/product.weakrest
check "enrolls" inside weakrest enroll --images /tmp/good --size 64 --output $product
check "the service reads what root enrolled" as_service weakrest check $product
check "the service inspects" as_service weakrest inspect $product /tmp/good/00.bmp

# The workshop adds its commands, and leaves the service's program alone.
before=$(sha256sum < "$root/usr/bin/weakrest")
for command in label evaluate residuals; do
    check "names the package of $command" sh -c "chroot '$root' weakrest $command --help 2>&1 | grep -q weakrest-workshop"
    check "$command fails without it" not inside weakrest $command --help
done
report() { as_service weakrest inspect $product /tmp/good/00.bmp --report /var/lib/weakrest/report.html; }
check "names the package of reports" sh -c "chroot '$root' weakrest inspect $product /tmp/good/00.bmp --report /tmp/r.html 2>&1 | grep -q weakrest-workshop"
check "the workshop installs" install_package "$workshop"
check "dpkg finds every file of the workshop as packaged" inside dpkg --verify weakrest-workshop
for command in label evaluate residuals; do
    check "$command works with it" inside weakrest $command --help
    has_page weakrest-$command
done
check "the workshop finds ONNX Runtime and reports" report
check "the report is written" test -s "$root/var/lib/weakrest/report.html"
check "the service's program is the same" [ "$before" = "$(sha256sum < "$root/usr/bin/weakrest")" ]
check "weakrest is upgraded with the workshop there" install_package "$work/next.deb"
check "the workshop is removed" inside dpkg --purge weakrest-workshop
check "removing the workshop takes its program" test ! -e "$root/usr/lib/weakrest/weakrest-workshop"
check "the service still inspects" as_service weakrest inspect $product /tmp/good/00.bmp
rm -f "$root/var/lib/weakrest/report.html"
check "goes back to the version before" install_package "$package"

# An administrator's configuration and choice outlive an upgrade.
check "can be enabled" inside systemctl enable weakrest
check "a further camera can be enabled" inside systemctl enable weakrest@left
sed -i 's/^#threads = 4/threads = 1/' "$root/etc/weakrest/weakrest.toml"
chmod 0640 "$root/etc/weakrest/weakrest.toml"
check "upgrades" install_package "$work/next.deb"
check "is the next version" sh -c "chroot '$root' dpkg-query -W -f '\${Version}' weakrest | grep -qx '$next'"
check "keeps the edited configuration" file_says "^threads = 1" /etc/weakrest/weakrest.toml
check "lays the new one beside it" file_says "New in this version" /etc/weakrest/weakrest.toml.dpkg-dist
check "stays enabled" inside systemctl is-enabled weakrest
check "the further camera stays enabled" inside systemctl is-enabled weakrest@left
check "keeps the product" as_service weakrest check $product
check "goes back to the version before" install_package "$package"

check "is removed" inside dpkg --remove weakrest
for path in /usr/bin/weakrest /usr/lib/weakrest /usr/lib/systemd/system/weakrest.service /usr/share/doc/weakrest; do
    check "removing takes $path" test ! -e "$root$path"
done
check "removing keeps the configuration" file_says "^threads = 1" /etc/weakrest/weakrest.toml
check "removing keeps the product" test -s "$root$product/package.toml"

check "is installed again" install_package "$package"
check "with the configuration of before" file_says "^threads = 1" /etc/weakrest/weakrest.toml
check "and enabled as before" inside systemctl is-enabled weakrest
mkdir -p "$root/var/cache/weakrest/tensorrt"
inside dpkg --purge weakrest > "$work/purge" 2>&1 || { cat "$work/purge" >&2; exit 1; }
check "purging says what it keeps" grep -q "kept in /var/lib/weakrest" "$work/purge"
check "purging keeps the records" test -s "$root$product/package.toml"
check "purging takes the configuration" test ! -e "$root/etc/weakrest"
check "purging takes the cache" test ! -e "$root/var/cache/weakrest"
for unit in weakrest weakrest@left; do
    check "purging takes the enabling of $unit" not test -L "$root/etc/systemd/system/multi-user.target.wants/$unit.service"
done

# A machine that never had a product is left as it was, but for the user.
rm -rf "$root/var/lib/weakrest"
(cd "$root" && find . -path ./proc -prune -o -path ./sys -prune -o -print | LC_ALL=C sort) > "$work/before"
check "is installed once more" install_package "$package"
check "is purged at once" inside dpkg --purge weakrest
(cd "$root" && find . -path ./proc -prune -o -path ./sys -prune -o -print | LC_ALL=C sort) > "$work/after"
check "leaves nothing behind" diff "$work/before" "$work/after"
echo "deb-test: $checks checks of $(basename "$package") passed"
