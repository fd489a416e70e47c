#!/bin/bash
# Runs all that needs two GPUs: the tests, then the launchers' variables and the job of a user, and
# what communication costs a step of configs/smoe-1.5b.yaml.
#
#   tests/scripts/multi_gpu.sh [BIN_FOLDER [PART...]]     default build/release/bin; tests launchers timing
#
# Parts: tests, launchers, timing, and job: 200 steps of configs/smoe-1.5b.yaml that are killed and go on
# on one GPU and on two again, which writes 80 GB of checkpoints. Exit code 1 where something failed, 77 where there are fewer than
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
  for file in core/multi_gpu/gpu_communicators_test.cpp core/multi_gpu/aborts_test.cpp \
    train/multi_gpu/ranks_test.cpp; do
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
  local mpirun=${MPIRUN:-$(command -v mpirun)}
  [ -z "$mpirun" ] || try 60 "$mpirun" --allow-run-as-root --bind-to none -np 2 \
    "$bin/smoe" "${train[@]}" run.name=mpirun > "$work/mpirun.txt" 2>&1
  # Hosts of one GPU each, between which NCCL has neither peer access nor shared memory; with srun
  # each rank sees one GPU only, as under --gpus-per-task=1.
  as_hosts sockets srun_rank "$bin/smoe" "${train[@]}" run.name=sockets
  as_hosts nodes launch_node "${train[@]}" run.name=nodes
  grep -h '^ranks' "$work"/{launch,sockets-0,nodes-0}.txt
  for name in torchrun mpirun sockets nodes; do
    [ -e "$work/$name" ] || continue
    if diff <(losses launch) <(losses $name); then
      echo "$name: the losses of smoe launch"
    else
      failed=1
      echo "FAILED: $name has other losses than smoe launch"
    fi
  done
}

# as_hosts NAME FUNCTION ARGUMENTS...: calls FUNCTION NODE ARGUMENTS... for both hosts.
as_hosts() {
  local name=$1 function=$2 node pids=()
  shift 2
  for node in 0 1; do
    CUDA_VISIBLE_DEVICES=$node NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1 NCCL_SOCKET_IFNAME=lo \
      $function $node "$@" > "$work/$name-$node.txt" 2>&1 &
    pids+=($!)
  done
  for node in 0 1; do
    wait "${pids[$node]}" || { failed=1; echo "FAILED: $name, host $node" && cat "$work/$name-$node.txt"; }
  done
}

srun_rank() {
  local rank=$1
  shift
  SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=$rank SLURM_NTASKS=2 SLURM_NODEID=$rank \
    SLURM_LOCALID=0 SLURM_TASKS_PER_NODE='1(x2)' MASTER_ADDR=127.0.0.1 timeout -k 5 60 "$@"
}

launch_node() {
  local node=$1
  shift
  timeout -k 5 60 "$bin/smoe" launch --nnodes 2 --node-rank "$node" --master-addr 127.0.0.1 \
    --rdzv-id nodes --nproc-per-node 1 "$@"
}

timing() {
  text
  local config=(configs/smoe-1.5b.yaml "data.path=$work/set.h5" checkpoint.resume=none)
  local two=("$bin/smoe" launch --nproc-per-node 2 --no-python "$bin/smoe_bench_parallel")
  try 60 "$bin/smoe_bench_parallel" "${config[@]}" train.global_batch=16 pairs=5
  try 100 "${two[@]}" "${config[@]}" train.global_batch=32 parallel.zero=0 trace
  try 100 "${two[@]}" "${config[@]}" train.global_batch=32 parallel.zero=1 trace
  try 120 "${two[@]}" "${config[@]}" train.global_batch=256 parallel.zero=0 pairs=4
}

# wait_for_step NAME STEP SECONDS: until the run's metrics have the step.
wait_for_step() {
  local i
  for ((i = 0; i < $3 * 5; ++i)); do
    grep -q "\"kind\":\"step\",\"step\":$2," "$work/$1/metrics.jsonl" 2> /dev/null && return
    sleep 0.2
  done
  failed=1
  echo "FAILED: $1 did not reach step $2 in $3 s"
}

job() {
  text
  local keys=("data.path=$work/set.h5" "run.dir=$work" train.global_batch=32 train.steps=200
    schedule.warmup_steps=20 train.eval_every=0 log.every=1 checkpoint.every=50 checkpoint.keep=1
    checkpoint.keep_every=0 checkpoint.every_minutes=0)
  local train=("$bin/smoe" train configs/smoe-1.5b.yaml "${keys[@]}")
  local two=("$bin/smoe" launch --nproc-per-node 2 train configs/smoe-1.5b.yaml "${keys[@]}")
  "$bin/smoe" plan configs/smoe-1.5b.yaml "${keys[@]}" --ranks 2 | sed -n '/ranks, each/,$p' | head -9
  "${two[@]}" run.name=job > "$work/job-1.txt" 2>&1 &
  local launcher=$!
  wait_for_step job 70 120
  kill -KILL $launcher
  wait $launcher 2> /dev/null
  sleep 2
  # On one GPU; on the other one, the same run undisturbed.
  CUDA_VISIBLE_DEVICES=1 timeout -k 5 160 "${train[@]}" run.name=alone checkpoint.every=0 \
    > "$work/alone.txt" 2>&1 &
  local alone=$!
  CUDA_VISIBLE_DEVICES=0 "${train[@]}" run.name=job > "$work/job-2.txt" 2>&1 &
  local single=$!
  wait_for_step job 110 120
  kill -TERM $single
  wait $single
  [ $? = 143 ] || { failed=1; echo "FAILED: the run on one GPU"; tail -5 "$work/job-2.txt"; }
  # Half the micro-batch is the same sum, rounded otherwise: how far apart that alone takes two runs.
  CUDA_VISIBLE_DEVICES=0 "${train[@]}" run.name=rounded train.micro_batch=8 checkpoint.every=0 \
    > "$work/rounded.txt" 2>&1 &
  local rounded=$!
  wait_for_step rounded 100 120
  kill -KILL $rounded
  wait $rounded 2> /dev/null
  wait $alone || { failed=1; echo "FAILED: the undisturbed run"; tail -5 "$work/alone.txt"; }
  try 120 "${two[@]}" run.name=job parallel.zero=1 > "$work/job-3.txt" 2>&1
  grep -h '^ranks\|resumed' "$work"/job-?.txt
  grep -ho 'step *\(60\|100\|200\)/.*' "$work"/job-[123].txt "$work/alone.txt"
  awk '
    FNR == 1 { ++file }
    { loss[file, $1] = $2 }
    # Mean relative difference of two runs over steps.
    function apart(a, b, from, to,   sum, i) {
      for (i = from; i <= to; ++i) {
        if (!((a, i) in loss && (b, i) in loss)) exit 1
        sum += (loss[a, i] > loss[b, i] ? 1 : -1) * (loss[a, i] / loss[b, i] - 1)
      }
      return sum / (to - from + 1)
    }
    function show(from, to) {
      printf "losses of steps %d to %d: two GPUs %.1e from one GPU, which is %.1e from itself with half the micro-batch\n",
             from, to, apart(1, 2, from, to), apart(3, 2, from, to)
    }
    END {
      show(1, 3); show(4, 10); show(11, 50); show(51, 100)
      printf "losses of steps 101 to 200: two GPUs %.1e from one GPU\n", apart(1, 2, 101, 200)
      exit apart(1, 2, 1, 3) > 1e-5 || apart(1, 2, 11, 100) > 5 * apart(3, 2, 11, 100)
    }' <(losses job | sort -n -k1,1 -u) <(losses alone) <(losses rounded) ||
    { failed=1; echo "FAILED: two GPUs do not train as one does"; }
  try 60 "$bin/smoe" eval "$work/job" --batches 4
  try 60 "$bin/smoe" generate "$work/job" --prompt 'def main(' --max-tokens 60
  try 60 "$bin/smoe" export "$work/job" "$work/exported" --dtype bf16
}

for part in $parts; do
  echo "== $part"
  $part
done
exit $failed
