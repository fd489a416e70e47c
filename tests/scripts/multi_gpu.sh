#!/bin/bash
# Runs all that needs two GPUs: the tests, then the launchers' variables and the job of a user, and
# what communication costs a step of configs/smoe-1.5b.yaml.
#
#   tests/scripts/multi_gpu.sh [BIN_FOLDER [PART...]]     default build/release/bin, all parts
#
# Parts: tests, launchers, timing. Exit code 1 where something failed, 77 where there are fewer than
# two GPUs. Every program runs under a time limit, so that no collective operation hangs for ever.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=$(realpath "${1:-build/release/bin}")
shift || true
parts=${*:-tests launchers timing}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# try SECONDS COMMAND...
try() {
  local seconds=$1 start=$SECONDS code=0
  shift
  timeout -k 5 "$seconds" "$@" || code=$?
  [ $code = 77 ] && exit 77
  if [ $code != 0 ]; then
    failed=1
    echo "FAILED with $code after $((SECONDS - start)) s: $*"
  fi
}

# Python's own library is text enough, and on every machine.
text() {
  [ -e "$work/text.txt" ] ||
    find /usr/lib/python3* /usr/local/lib/python3* -name '*.py' -size -200k 2> /dev/null |
    LC_ALL=C sort | head -3000 | xargs cat 2> /dev/null | head -c 24000000 > "$work/text.txt"
  [ -e "$work/set.h5" ] ||
    "$bin/smoe" prepare --input "$work/text.txt" --output "$work/set.h5" > /dev/null
}

tests() {
  for file in core/multi_gpu/nccl_communicator_test.cpp train/multi_gpu/ranks_test.cpp; do
    try 200 "$bin/multi_gpu_tests" --source-file="*/$file"
  done
}

# losses NAME: step and loss of the run.
losses() {
  grep '"kind":"step"' "$work/$1/metrics.jsonl" |
    sed 's/.*"kind":"step","step":\([0-9]*\),.*,"loss":\([^,]*\),.*/\1 \2/'
}

launchers() {
  text
  local train=(train configs/tiny.yaml "data.path=$work/set.h5" "run.dir=$work" run.device=cuda
    train.precision=bf16 train.micro_batch=4 train.seq_len=64 train.steps=6 schedule.warmup_steps=1
    train.eval_every=0 log.every=1)
  try 60 "$bin/smoe" launch --nproc-per-node gpu "${train[@]}" run.name=launch > "$work/launch.txt"
  local torchrun=${TORCHRUN:-$(command -v torchrun)}
  [ -z "$torchrun" ] || try 60 "$torchrun" --standalone --nproc-per-node 2 --no-python \
    "$bin/smoe" "${train[@]}" run.name=torchrun > "$work/torchrun.txt" 2>&1
  # Each rank sees one GPU only, as under srun --gpus-per-task=1; two hosts of one GPU each, between
  # which NCCL has neither peer access nor shared memory.
  local rank pids=()
  for rank in 0 1; do
    CUDA_VISIBLE_DEVICES=$rank SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=$rank SLURM_NTASKS=2 \
      SLURM_NODEID=$rank SLURM_LOCALID=0 SLURM_TASKS_PER_NODE='1(x2)' MASTER_ADDR=127.0.0.1 \
      NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1 NCCL_SOCKET_IFNAME=lo \
      timeout -k 5 60 "$bin/smoe" "${train[@]}" run.name=sockets > "$work/sockets-$rank.txt" 2>&1 &
    pids+=($!)
  done
  for rank in 0 1; do
    wait "${pids[$rank]}" || { failed=1; echo "FAILED: rank $rank over sockets" && cat "$work/sockets-$rank.txt"; }
  done
  grep -h '^ranks' "$work"/{launch,sockets-0}.txt
  for name in torchrun sockets; do
    [ -e "$work/$name" ] || continue
    if diff <(losses launch) <(losses $name); then
      echo "$name: the losses of smoe launch"
    else
      failed=1
      echo "FAILED: $name has other losses than smoe launch"
    fi
  done
}

timing() {
  text
  local config=(configs/smoe-1.5b.yaml "data.path=$work/set.h5" checkpoint.resume=none)
  local two=("$bin/smoe" launch --nproc-per-node 2 --no-python "$bin/smoe_bench_parallel")
  try 60 "$bin/smoe_bench_parallel" "${config[@]}" train.global_batch=16 pairs=5
  try 100 "${two[@]}" "${config[@]}" train.global_batch=32 parallel.zero=0
  try 100 "${two[@]}" "${config[@]}" train.global_batch=32 parallel.zero=1
  try 120 "${two[@]}" "${config[@]}" train.global_batch=256 parallel.zero=0 pairs=4
}

for part in $parts; do
  echo "== $part"
  $part
done
exit $failed
