#!/bin/sh
# Checks the scripts of the pages: types with tsc, rules with eslint. Both are installed below target/.
set -eu
cd "$(dirname "$0")/../.."
here=tools/javascript
there=target/javascript
mkdir -p "$there"

skip() {
    echo "SKIP: $*, the scripts of the pages were not checked" | tee -a target/skipped.txt >&2
    exit 0
}
command -v npm >/dev/null || skip "no npm on the path"
# What eslint needs.
node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
process.exit(major >= 24 || (major === 22 && minor >= 13) || (major === 20 && minor >= 19) ? 0 : 1)' ||
    skip "Node.js $(node --version) is not 20.19, 22.13 or 24"

if ! cmp -s "$here/package-lock.json" "$there/installed"; then
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$there/"
    npm ci --prefix "$there" --ignore-scripts --silent
    cp "$here/package-lock.json" "$there/installed"
fi
# The configuration imports what is installed beside it.
cp "$here/eslint.config.js" "$there/"
"$there/node_modules/.bin/tsc" --project "$here/tsconfig.json"
"$there/node_modules/.bin/eslint" --config "$there/eslint.config.js" --max-warnings 0 src
