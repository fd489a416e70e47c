#!/bin/sh
# Tests links.sh: it must pass what is right and report what is not.
set -eu
links=$(realpath "$(dirname "$0")/links.sh")
folder=$(mktemp -d /tmp/smoe-links-XXXXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir docs

fail() {
  echo "FAILED: $1"
  exit 1
}

printf '# Page one, of two\n\n[b](docs/b.md#part-2), [self](#page-one-of-two), [out](https://none.example/x)\n' >a.md
printf '## Part 2\n\n[a](../a.md)\n' >docs/b.md
"$links" . || fail "right links were reported"

echo '[none](docs/none.md) and [b](docs/b.md#part-3)' >c.md
if "$links" . >output; then fail "wrong links passed"; fi
grep -qx 'c.md:1:docs/none.md: there is no such file' output || fail "a missing file"
grep -qx 'c.md:1:docs/b.md#part-3: there is no such heading' output || fail "a missing heading"
