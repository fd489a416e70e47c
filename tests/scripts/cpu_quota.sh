#!/bin/bash
# Runs programs in a control group with a CPU quota of half a core, as `docker --cpus=0.5` does: both
# a run and the kernels on their own must use one thread. Exit code 77 where control groups cannot be
# created.
# usage: tests/scripts/cpu_quota.sh path/to/smoe path/to/kernels_tests
set -euo pipefail

smoe=$(realpath "$1")
kernels_tests=$(realpath "$2")
folder=$(mktemp -d /tmp/smoe-quota-XXXXXX)
group=
clean_up() {
  [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
  rm -rf "$folder"
}
trap clean_up EXIT

skip() {
  echo "skipped: $*"
  exit 77
}
fail() {
  echo "FAILED: $*"
  [ ! -f "$folder/output" ] || tail -5 "$folder/output" | sed 's/^/  /'
  exit 1
}

# Sets $group to a new control group, of version 2 or 1, with a quota of half a core.
make_group() {
  local root
  for root in /sys/fs/cgroup /sys/fs/cgroup/cpu; do
    mkdir "$root/smoe-quota-$$" 2>/dev/null || continue
    group=$root/smoe-quota-$$
    if [ -w "$group/cpu.max" ]; then
      echo 50000 100000 >"$group/cpu.max" && return
    elif [ -w "$group/cpu.cfs_quota_us" ]; then
      echo 100000 >"$group/cpu.cfs_period_us" && echo 50000 >"$group/cpu.cfs_quota_us" && return
    fi
    rmdir "$group"
    group=
  done
  return 1
}
in_group() { (echo "$BASHPID" >"$group/cgroup.procs" && exec "$@"); }

[ "$(nproc)" -gt 1 ] || skip "there is one core"
make_group || skip "control groups cannot be created"
in_group true 2>/dev/null || skip "processes cannot enter a control group"

cd "$folder"
seq 1 2000 | tr '\n' ' ' >text.txt
"$smoe" prepare --input text.txt --output tokens.h5 >output 2>&1 || fail "prepare"
cat >config.yaml <<'END'
run: {name: run}
model: {num_layers: 1, d_model: 32, num_heads: 2, num_kv_heads: 1, head_dim: 16, d_expert: 32, num_experts: 2, top_k: 1}
data: {path: tokens.h5}
train: {steps: 1, seq_len: 16, micro_batch: 1, global_batch: 1}
END
in_group "$smoe" train config.yaml >output 2>&1 || fail "train"
grep -q ', 1 thread' output || fail "train used more than one thread"
in_group "$kernels_tests" --test-case='by default there are as many threads as usable cores' \
  >output 2>&1 || fail "kernels on their own used more than one thread"
echo "a quota of half a core: one thread"
