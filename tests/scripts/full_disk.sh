#!/bin/bash
# Trains on a disk that becomes full: the run must report path and bytes and keep its checkpoint; with
# free space again, the same command must resume from there and end bit-identical to an undisturbed
# run. The disk is a small tmpfs in its own mount namespace; exit code 77 where mounting is not
# permitted.
# usage: tests/scripts/full_disk.sh path/to/smoe
set -euo pipefail

smoe=$(realpath "$1")
. "$(realpath "$(dirname "$0")")/small_run.sh"
if [ -z "${SMOE_FULL_DISK_INSIDE:-}" ]; then
  unshare --user --map-root-user --mount true 2>/dev/null || {
    echo "skipped: this machine does not permit mounting"
    exit 77
  }
  SMOE_FULL_DISK_INSIDE=1 exec unshare --user --map-root-user --mount "$0" "$smoe"
fi

folder=$(mktemp -d /tmp/smoe-full-disk-XXXXXX)
trap 'umount "$folder/disk" 2>/dev/null || true; rm -rf "$folder"' EXIT
mkdir "$folder/disk"
cd "$folder"

fail() {
  echo "FAILED: $*"
  [ ! -f output ] || sed 's/^/  /' output
  exit 1
}
# expect TEXT: fails unless the last output contains it.
expect() { grep -qF -- "$1" output || fail "the output must contain: $1"; }
train() { "$smoe" train config.yaml train.steps=12 "$@" >output 2>&1; }
only_checkpoint() {
  [ "$(ls -A disk/run/checkpoints)" = "$1" ] ||
    fail "there must be only $1; got $(ls -A disk/run/checkpoints)"
}

make_small_run "$smoe" >output 2>&1 || fail "prepare"
train run.dir=whole || fail "an undisturbed run"
whole=whole/run/checkpoints/step-00000012/shard-00000.bin
kib=$(($(stat -c %s "$whole") / 1024))

# Space for one and a half checkpoints.
mount -t tmpfs -o size=$((kib * 3 / 2 + 200))k none disk
if train; then fail "a run without space for its second checkpoint"; fi
expect ".tmp-step-00000008/shard-00000.bin at byte "
expect "bytes): No space left on device"
only_checkpoint step-00000004

# No space at all.
dd if=/dev/zero of=disk/filler bs=4k >/dev/null 2>&1 || true
if train; then fail "a run on a full disk"; fi
expect "No space left on device"
expect "disk/run/"
only_checkpoint step-00000004

# Enough space.
rm disk/filler
mount -o remount,size=$((kib * 8 + 4000))k disk
train || fail "a resumed run"
expect "resumed from disk/run/checkpoints/step-00000004"
cmp "$whole" disk/run/checkpoints/step-00000012/shard-00000.bin || fail "the resumed run is not bit-identical"
echo "a full disk was reported, the checkpoint stayed, and the run resumed bit-identically"
