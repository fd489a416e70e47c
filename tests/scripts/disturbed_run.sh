#!/bin/bash
# Disturbs a small run at random times. After each disturbance, every checkpoint that was logged as
# saved must exist or have been replaced by a later one, and the same command must resume and end
# bit-identical to an undisturbed run. Prints one line with the counts; exit code 77 where the
# disturbance is not possible on this machine.
# usage: tests/scripts/disturbed_run.sh path/to/smoe KIND [COUNT]
#   failing-calls  a system call fails, in any thread, as injected by strace
#   power-cut      an ext4 file system on a loop device loses what is not on the device (needs root)
#   kill-async     kill -9 while checkpoints are saved in the background
#   kill-ranks     kill -9 of a rank or of the launcher of two ranks
#   signal-storm   thousands of signals that must change nothing, then one that stops the run
#   limits         address space, file size, one core, for all of which there is an error or a result
set -euo pipefail

smoe=$(realpath "$1")
. "$(realpath "$(dirname "$0")")/small_run.sh"
kind=$2
count=${3:-20}
RANDOM=${SEED:-1}
folder=$(mktemp -d /tmp/smoe-disturbed-XXXXXX)
clean_up() {
  mountpoint -q "$folder/disk" && umount "$folder/disk"
  rm -rf "$folder"
}
trap clean_up EXIT
mkdir "$folder/disk"
cd "$folder"

skip() {
  echo "skipped: $*"
  exit 77
}
fail() {
  echo "FAILED: $kind, trial ${trial:-0}: $*"
  [ ! -f output ] || tail -5 output | sed 's/^/  /'
  exit 1
}
train() { exec "$smoe" train config.yaml "$@"; } # in a subshell, which it replaces
async() { [ $((trial % 2)) = 0 ] && echo true || echo false; }
# Up to the time that the undisturbed run took.
random_sleep() { sleep "$(awk "BEGIN { print $((RANDOM % 1000)) * $run_ms / 1e6 }")"; }
state() { echo "$1/checkpoints/step-00000060/shard-00000.bin"; }

prepare() {
  make_small_run "$smoe" >output 2>&1 || fail "prepare"
  local start
  start=$(date +%s%3N)
  (train run.dir=whole) >output 2>&1 || fail "an undisturbed run"
  run_ms=$(($(date +%s%3N) - start))
}

# The newest step that the disturbed run has logged as saved; 0: none.
newest_saved() { sed -n 's/.*saved .*step-0*\([0-9]*\)$/\1/p' output | sort -n | tail -1 | grep . || echo 0; }

# Removes what the last trial left and forgets the counts of its output.
begin() {
  rm -rf disk/run output
  touch output
}

# check ARGUMENTS...: nothing that was saved is lost, and the run resumes to the same bits.
check() {
  local saved newest
  saved=$(newest_saved)
  newest=$(ls disk/run/checkpoints 2>/dev/null | sed -n 's/^step-0*\([0-9]*\)$/\1/p' | tail -1 || true)
  [ "${newest:-0}" -ge "$saved" ] || fail "step $saved was saved; the newest is ${newest:-none}"
  ("$@") >output 2>&1 || fail "resume, exit code $?"
  cmp -s "$(state whole/run)" "$(state disk/run)" || fail "the resumed run is not bit-identical"
}

failing_calls() {
  command -v strace >/dev/null || skip "strace is not installed"
  strace -f -o calls true 2>/dev/null || skip "strace is not permitted"
  local calls=(openat read pread64 pwrite64 write fsync rename mkdir flock unlink getdents64 newfstatat ftruncate fcntl)
  local errors=(EIO ENOSPC EACCES EMFILE ENOMEM EINTR)
  local ended=0 trial
  for ((trial = 1; trial <= count; ++trial)); do
    begin
    local call=${calls[RANDOM % ${#calls[@]}]} error=${errors[RANDOM % ${#errors[@]}]} code=0
    timeout 120 strace -f -qq -o calls --seccomp-bpf -e "trace=$call" \
      -e "inject=$call:error=$error:when=$((RANDOM % 150 + 1))" \
      "$smoe" train config.yaml >output 2>&1 || code=$?
    [ $code -le 2 ] || [ $code = 127 ] || fail "$call: $error: exit code $code"
    [ $code = 0 ] || ended=$((ended + 1))
    check train
  done
  echo "$count failing system calls, $ended of which ended the run: all resumed bit-identical"
}

# What ext4 keeps when its device stops in the midst: EXT4_IOC_SHUTDOWN without a flush of its log.
cut_power() {
  perl -e 'open(my $f, "<", $ARGV[0]) or die; my $flags = pack("I", 2); ioctl($f, 0x8004587D, $flags) or die "$!"' disk
}

power_cut() {
  [ "$(id -u)" = 0 ] && command -v mkfs.ext4 perl >/dev/null || skip "needs root, mkfs.ext4 and perl"
  truncate -s 128M image
  mkfs.ext4 -q -F image
  mount -o loop image disk 2>/dev/null || skip "loop devices are not available"
  local with_saves=0 trial process
  for ((trial = 1; trial <= count; ++trial)); do
    begin
    sync
    train checkpoint.async=$(async) >output 2>&1 &
    process=$!
    random_sleep
    cut_power || fail "EXT4_IOC_SHUTDOWN"
    kill -9 $process 2>/dev/null || true
    wait $process 2>/dev/null || true
    [ "$(newest_saved)" = 0 ] || with_saves=$((with_saves + 1))
    umount disk
    mount -o loop image disk
    check train checkpoint.async=$(async)
  done
  echo "$count power cuts, $with_saves of them after a save: no saved checkpoint lost, all resumed bit-identical"
}

kill_async() {
  local trial process
  for ((trial = 1; trial <= count; ++trial)); do
    begin
    train checkpoint.async=true >output 2>&1 &
    process=$!
    random_sleep
    kill -9 $process 2>/dev/null || true
    wait $process 2>/dev/null || true
    check train checkpoint.async=true
  done
  echo "killed $count times: no saved checkpoint lost, all resumed bit-identical"
}

kill_ranks() {
  local launch=("$smoe" launch --nproc-per-node 2 train config.yaml) trial process victim ranks
  "${launch[@]}" run.dir=whole-2 >output 2>&1 || fail "an undisturbed run of two ranks"
  rm -rf whole && mv whole-2 whole
  for ((trial = 1; trial <= count; ++trial)); do
    begin
    "$smoe" launch --nproc-per-node 2 --max-restarts 0 train config.yaml \
      checkpoint.async=$(async) >output 2>&1 &
    process=$!
    sleep 0.3
    random_sleep
    ranks=($(pgrep -P $process || true))
    victim=${ranks[RANDOM % (${#ranks[@]} + 1)]:-$process}
    kill -9 "$victim" 2>/dev/null || true
    wait $process 2>/dev/null || true
    sleep 0.2
    for victim in "${ranks[@]}"; do
      for ((i = 0; i < 100; ++i)); do kill -0 "$victim" 2>/dev/null || break; sleep 0.1; done
      [ $i -lt 100 ] || fail "rank process $victim outlived the job by ten seconds"
    done
    check "${launch[@]}" checkpoint.async=$(async)
  done
  echo "killed a rank or the launcher $count times: no saved checkpoint lost, no rank left, all resumed bit-identical"
}

signal_storm() {
  local harmless=(STOP CONT WINCH CHLD URG PIPE CONT) stopping=(TERM INT HUP USR1 USR2 XCPU)
  local trial process sent=0 code signal
  for ((trial = 1; trial <= count; ++trial)); do
    begin
    "$smoe" train config.yaml >output 2>&1 &
    process=$!
    sleep 0.2
    for ((i = 0; i < 300; ++i)); do
      kill -s "${harmless[RANDOM % ${#harmless[@]}]}" $process 2>/dev/null || break
      sent=$((sent + 1))
    done
    signal=${stopping[RANDOM % ${#stopping[@]}]}
    kill -CONT $process 2>/dev/null || true
    kill -s $signal $process 2>/dev/null || true
    kill -CONT $process 2>/dev/null || true
    code=0
    wait $process || code=$?
    [ $code = 0 ] || [ $code -gt 128 ] || fail "exit code $code"
    check train
  done
  echo "$sent signals to $count runs: all ended with the state that they logged and resumed bit-identical"
}

limits() {
  local trial=0 code errors=0
  for limit in "-v 400000" "-v 600000" "-v 800000" "-v 1000000" "-v 1500000" "-f 1" "-f 100" "-f 300" "-n 12" "-n 20" "-u 1"; do
    trial=$((trial + 1))
    begin
    code=0
    (ulimit $limit; exec timeout 60 "$smoe" train config.yaml) >output 2>&1 || code=$?
    [ $code -le 1 ] || [ $code = 127 ] || fail "ulimit $limit: exit code $code"
    [ $code = 0 ] || errors=$((errors + 1))
    [ $code = 0 ] || [ -s output ] || fail "ulimit $limit: no message"
    check train
  done
  begin
  taskset -c 0 "$smoe" train config.yaml run.threads=0 >output 2>&1 || fail "one core"
  grep -q ', 1 thread' output || fail "one core: more than one thread"
  echo "$trial limits, $errors of which ended the run with an error: all resumed bit-identical"
}

prepare
"${kind//-/_}"
