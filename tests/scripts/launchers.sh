#!/bin/bash
# Trains with two ranks under each installed launcher: smoe launch, torchrun (PyTorch; or set TORCHRUN)
# and mpirun (Open MPI). All must give the same losses, and a killed rank must end the job. Missing
# launchers are reported as skipped.
# usage: tests/scripts/launchers.sh [PATH OF smoe]
set -euo pipefail
cd "$(dirname "$0")/../.."
smoe=$(realpath "${1:-build/release/bin/smoe}")
torchrun=${TORCHRUN:-$(command -v torchrun || true)}
mpirun=$(command -v mpirun || true)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

for i in $(seq 3000); do echo "line $i of a text to learn from"; done > "$work/text.txt"
"$smoe" prepare --input "$work/text.txt" --output "$work/set.h5" > /dev/null
train=(train configs/tiny.yaml "data.path=$work/set.h5" "run.dir=$work" train.micro_batch=4
  train.seq_len=32 train.steps=6 schedule.warmup_steps=1 train.eval_every=0 log.every=1)

# losses NAME: the losses of the run's steps.
losses() {
  grep '"kind":"step"' "$work/$1/metrics.jsonl" |
    sed 's/.*"kind":"step","step":\([0-9]*\),.*,"loss":\([^,]*\),.*/\1 \2/'
}

# try NAME COMMAND...: trains run NAME under a launcher.
try() {
  local name=$1 status=0
  shift
  timeout 120 "$@" "${train[@]}" "run.name=$name" > "$work/$name.txt" 2>&1 || status=$?
  if [ $status != 0 ]; then
    tail -5 "$work/$name.txt"
    fail "$name: exit code $status"
  elif [ "$(losses "$name" | wc -l)" != 6 ] || ! diff <(losses launch) <(losses "$name"); then
    fail "$name: must have the losses of smoe launch"
  else
    echo "passed: $name"
  fi
}

# kill_one NAME COMMAND...: kills one rank of a long run; no process may remain after 15 seconds.
kill_one() {
  local name=$1-killed pid
  shift
  "$@" "${train[@]}" train.steps=100000 "run.name=$name" > "$work/$name.txt" 2>&1 &
  local launcher=$!
  for _ in $(seq 600); do
    if grep -qs '"step":3,' "$work/$name/metrics.jsonl"; then break; fi
    sleep 0.1
  done
  # The arguments of ranks and launcher contain the run's name; ranks are `smoe train`.
  pid=$(pgrep -nf "^(smoe|$smoe) train .*run.dir=$work .*run.name=$name\$" || true)
  if [ -z "$pid" ]; then
    tail -n 20 "$work/$name.txt"
    fail "$name: no rank found"
    kill -9 $launcher || true
    wait $launcher || true
    return
  fi
  kill -9 "$pid"
  for _ in $(seq 150); do
    if ! pgrep -f "run.dir=$work .*run.name=$name\$" > /dev/null; then break; fi
    sleep 0.1
  done
  if pgrep -f "run.dir=$work .*run.name=$name\$" > /dev/null; then
    fail "$name: processes remain after 15 seconds"
    pgrep -f "run.dir=$work .*run.name=$name\$" | xargs kill -9
  else
    echo "passed: $name"
  fi
  wait $launcher && fail "$name: must end with an error"
  return 0
}

try launch "$smoe" launch --nproc-per-node 2
kill_one launch "$smoe" launch --nproc-per-node 2 --max-restarts 0
if [ -n "$torchrun" ]; then
  try torchrun "$torchrun" --standalone --no-python --nproc-per-node 2 "$smoe"
  kill_one torchrun "$torchrun" --standalone --no-python --nproc-per-node 2 "$smoe"
else
  echo "skipped: torchrun is not installed"
fi
if [ -n "$mpirun" ]; then
  mpi=("$mpirun" --oversubscribe -np 2)
  [ "$(id -u)" != 0 ] || mpi+=(--allow-run-as-root)
  try mpirun "${mpi[@]}" "$smoe"
  kill_one mpirun "${mpi[@]}" "$smoe"
else
  echo "skipped: mpirun is not installed"
fi
[ $failures = 0 ]
