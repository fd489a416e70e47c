#!/bin/bash
# Holds a build to the promises of docs/reliability.md at their full counts, which the suite runs
# reduced, and prints the table of that page as it goes. The last row, which builds with ASan + UBSan
# if need be, takes a night, all others together about half an hour on two cores.
# usage: tests/scripts/reliability.sh [-b BUILD] [WORD]   rows that hold WORD; BUILD: build/release
set -euo pipefail
cd "$(dirname "$0")/../.."

build=build/release
while getopts b: option; do
  [ "$option" = b ] || exit 2
  build=$OPTARG
done
shift $((OPTIND - 1))
word=${1:-}
export SMOE_FULL_COUNTS=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
is_failed=0

# row PROMISE COMMAND...: runs it and prints one row: what the tests said that they measured, or
# how many there were. A command that ends with 77 was not possible here.
row() {
  local promise=$1 start=$SECONDS code=0 measured
  shift
  [[ $promise == *"$word"* ]] || return 0
  "$@" >"$log" 2>&1 || code=$?
  measured=$(sed -n 's/.*MESSAGE: //p' "$log" | awk '!seen[$0]++' | paste -sd ';' | sed 's/;/; /g')
  if grep -q 'no test case was selected' "$log"; then
    measured='not in this build'
  elif [ $code = 77 ]; then
    measured=$(tail -1 "$log")
  elif [ $code != 0 ]; then
    measured="FAILED: $({ grep -E 'ERROR|FAILED' "$log" || tail -1 "$log"; } | head -1)"
    is_failed=1
  elif [ -z "$measured" ]; then
    measured=$(sed -n 's/.*test cases: *\([0-9]*\).*/\1 test cases pass/p' "$log")
    [ -n "$measured" ] || measured=$(tail -1 "$log")
  fi
  printf '| %s | %s | %d s |\n' "$promise" "$measured" $((SECONDS - start))
}

# tests PROGRAM FILES [CASES]: of one test program.
tests() { "$build/bin/$1" --source-file="$2" ${3:+--test-case="$3"}; }
train() { tests train_tests "$@"; }

printf '| promise | measured | took |\n|---|---|---|\n'
row 'kill -9 at random instants, a quarter inside a save: all resume bitwise, nothing saved is lost' \
  train '*/interrupted_run_slow_test.cpp' '*killed*'
row 'SIGTERM, SIGINT, SIGUSR1 at random times: no step lost, own exit code' \
  train '*/interrupted_run_slow_test.cpp' '*signal*'
row 'kill, EIO, ENOSPC, EINTR and short writes at every system call of a save' \
  train '*/save_faults_test.cpp'
row 'a full disk: named, the checkpoint stays, the same command goes on' \
  tests/scripts/full_disk.sh "$build/bin/smoe"
row 'flipped bits, truncation, zeroed pages in checkpoints: found and named' \
  train '*/checkpoint_test.cpp' '*damage*'
row 'the same in token sets' train '*/token_set_test.cpp' '*bit*,*damage*,*zeroed*,*truncated*'
row 'a save in the background: same bits, errors surface' train '*/async_run_test.cpp'
row 'resume after each of 20 steps, with all that was not saved garbage: bitwise' \
  train '*/resume_test.cpp'
row 'NaN in any value or gradient of a step: caught in it, weights untouched' \
  train '*/nonfinite_test.cpp'
row '10,000 steps: memory, descriptors and files stay' train '*/soak_slow_test.cpp'
row 'repeated runs and 1 to 3 threads: bitwise' train '*/trainer_test.cpp' '*threads*'
row 'gradients of every op in f64' tests autograd_tests '*/autograd/ops/*'
row 'routing invariants' tests kernels_tests '*/kernels/routing_test.cpp'
row 'ranks: 1, 2 and 4 agree, ZeRO on and off bitwise' train '*/data_parallel_test.cpp'
row 'ranks: mismatches refused by key, signals agreed on, flipped bits found' \
  train '*/ranks_test.cpp'
row 'launcher: dead and silent ranks, restarts, no rank left behind' \
  train '*/launch/launch_test.cpp,*/launch/rank_failure_test.cpp,*/launch/restart_policy_test.cpp'
row 'ranks on several hosts, here on one' train '*/several_nodes_test.cpp'
row 'ranks on virtual hosts, each with a network of its own' \
  tests/scripts/several_hosts.sh "$build/bin/smoe"
row 'ranks under the real torchrun and mpirun' tests/scripts/launchers.sh "$build/bin/smoe"
row 'a million hostile configs, token sets, manifests, weights, tokenizers, messages' \
  tests/scripts/fuzz.sh 1000000
exit $is_failed
