#!/bin/bash
# Simulates two hosts on one machine: network namespaces with separate host names, connected by a
# virtual cable. Trains with two ranks on each, then kills a rank, kills a launcher, and disconnects
# the cable: both hosts must stop and report why. Needs root and the command ip (package iproute2).
# usage: tests/scripts/several_hosts.sh [PATH OF smoe]
set -euo pipefail
cd "$(dirname "$0")/../.."
smoe=$(realpath "${1:-build/release/bin/smoe}")
if [ "$(id -u)" != 0 ] || ! command -v ip > /dev/null; then
  echo "skipped: needs root and the command ip"
  exit 77
fi
a=smoe-$$-a b=smoe-$$-b
if ! ip netns add $a 2> /dev/null; then
  echo "skipped: this system does not permit network namespaces"
  exit 77
fi
work=$(mktemp -d)
cleanup() {
  for host in $a $b; do
    ip netns pids $host 2> /dev/null | xargs -r kill -9
    ip netns del $host 2> /dev/null || true
  done
  rm -rf "$work"
}
trap cleanup EXIT
failures=0
fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

ip netns add $b
ip link add cable netns $a type veth peer name cable netns $b
ip -n $a addr add 10.77.0.1/24 dev cable
ip -n $b addr add 10.77.0.2/24 dev cable
for host in $a $b; do
  ip -n $host link set lo up
  ip -n $host link set cable up
done

for i in $(seq 3000); do echo "line $i of a text to learn from"; done > "$work/text.txt"
"$smoe" prepare --input "$work/text.txt" --output "$work/set.h5" > /dev/null
train=(train configs/tiny.yaml "data.path=$work/set.h5" "run.dir=$work" train.micro_batch=2
  train.seq_len=32 schedule.warmup_steps=1 train.eval_every=0 log.every=1)

# become_on HOST COMMAND...: replaces the shell by the command, in the host's namespaces.
become_on() {
  local host=$1
  shift
  exec ip netns exec "$host" unshare --uts sh -c 'hostname "$1"; shift; exec "$@"' sh "$host" "$@"
}

# start NAME [key=value ...]: launches run NAME on both hosts; sets `first` and `second` to the pids.
start() {
  local name=$1 node
  shift
  for node in 0 1; do
    become_on "$([ $node = 0 ] && echo $a || echo $b)" "$smoe" launch --nnodes 2 --node-rank $node \
      --master-addr 10.77.0.1 --rdzv-id "$name" --nproc-per-node 2 --max-restarts 0 "${train[@]}" \
      "run.name=$name" "$@" > "$work/$name.$node.txt" 2>&1 &
    [ $node = 0 ] && first=$! || second=$!
  done
}

await_steps() {
  for _ in $(seq 600); do
    if grep -qs '"step":3,' "$work/$1/metrics.jsonl"; then return; fi
    sleep 0.1
  done
  fail "$1: no third step"
}

# check_ended NAME SECONDS TEXT: both launchers must fail within the time and leave no process, and one
# of them must print TEXT.
check_ended() {
  local name=$1 limit=$2 text=$3 begin=$SECONDS status=0
  for pid in $first $second; do
    timeout "$limit" tail --pid="$pid" -f /dev/null || fail "$name: no end within $limit s"
    kill -9 "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || status=$?
    [ $status != 0 ] || fail "$name: exit code must not be 0"
  done
  grep -hq "$text" "$work/$name".[01].txt || { tail -n 3 "$work/$name".[01].txt; fail "$name: no output contains: $text"; }
  [ -z "$(ip netns pids $a)$(ip netns pids $b)" ] || fail "$name: processes remain"
  echo "$name: ended in $((SECONDS - begin)) s"
}

start plain train.steps=6
wait $first || fail "plain: node 0 has exit code $?"
wait $second || fail "plain: node 1 has exit code $?"
"$smoe" "${train[@]}" run.name=one train.steps=6 > /dev/null
losses() {
  grep '"kind":"step"' "$work/$1/metrics.jsonl" |
    sed 's/.*"kind":"step","step":\([0-9]*\),.*,"loss":\([0-9]*\.[0-9]\{5\}\).*/\1 \2/'
}
[ "$(losses plain | wc -l)" = 6 ] || fail "plain: must have six steps"
diff <(losses one) <(losses plain) || fail "plain: four ranks on two hosts must have the losses of one"

start rank-killed train.steps=100000
await_steps rank-killed
kill -9 "$(ip netns pids $b | xargs ps -o pid=,args= -p | awk '/ smoe train / { print $1; exit }')"
check_ended rank-killed 10 "on $b) was killed by SIGKILL"

start launcher-killed train.steps=100000
await_steps launcher-killed
kill -9 $second
check_ended launcher-killed 30 'smoe launch: '

start cable-pulled train.steps=100000 parallel.timeout_s=5
await_steps cable-pulled
ip -n $b link set cable down
check_ended cable-pulled 60 'smoe launch: '

[ $failures = 0 ] && echo "passed: several hosts"
