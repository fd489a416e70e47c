#!/bin/bash
# Tests the guarantees of docs/reliability.md at full counts (the test suite reduces them) and prints
# the table of that page. The last row, which builds with ASan + UBSan, takes a night; all others
# take about half an hour on two cores.
# usage: tests/scripts/reliability.sh [-b BUILD] [WORD]   only rows with WORD; BUILD: build/release
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

# row GUARANTEE COMMAND...: runs the command and prints one row with the measurements that the tests
# reported, or the number of tests. Exit code 77 means that the command is not possible here.
row() {
  local guarantee=$1 start=$SECONDS code=0 measured
  shift
  [[ $guarantee == *"$word"* ]] || return 0
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
  printf '| %s | %s | %d s |\n' "$guarantee" "$measured" $((SECONDS - start))
}

# tests PROGRAM FILES [CASES]: runs tests of one test program.
tests() { "$build/bin/$1" --source-file="$2" ${3:+--test-case="$3"}; }
train() { tests train_tests "$@"; }

printf '| guarantee | measured | time |\n|---|---|---|\n'
row 'kill -9 at random times, a quarter of them inside a save: bit-identical resume, no saved checkpoint lost' \
  train '*/interrupted_run_slow_test.cpp' '*killed*'
row 'SIGTERM, SIGINT, SIGUSR1 at random times: no step lost, exit code of the signal' \
  train '*/interrupted_run_slow_test.cpp' '*signal*'
row 'kill, EIO, ENOSPC, EINTR and short writes at every system call of a save' \
  train '*/save_faults_test.cpp'
row 'full disk: reported, the checkpoint stays, the same command resumes' \
  tests/scripts/full_disk.sh "$build/bin/smoe"
disturbed() { tests/scripts/disturbed_run.sh "$build/bin/smoe" "$@"; }
row 'a system call fails, injected from outside (strace)' disturbed failing-calls 200
row 'power cut under an ext4 file system on a loop device' disturbed power-cut 50
row 'kill -9 during background saves' disturbed kill-async 100
row 'kill -9 of a rank or of the launcher of two ranks' disturbed kill-ranks 50
row 'signal storms' disturbed signal-storm 30
row 'limits: ulimit -v, -f, -n, -u; affinity' disturbed limits
row 'a CPU quota of a control group bounds the threads' \
  tests/scripts/cpu_quota.sh "$build/bin/smoe" "$build/bin/kernels_tests"
row 'flipped bits, truncation, zeroed pages in checkpoints: detected and reported' \
  train '*/checkpoint_test.cpp' '*damage*'
row 'the same in token sets' train '*/token_set_test.cpp' '*bit*,*damage*,*zeroed*,*truncated*'
row 'background saves: bit-identical, errors are reported' train '*/async_run_test.cpp'
row 'resume after each of 20 steps, with all unsaved memory overwritten: bit-identical' \
  train '*/resume_test.cpp'
row 'NaN in any value or gradient of a step: detected in that step, weights unchanged' \
  train '*/nonfinite_test.cpp'
row '10,000 steps: memory, descriptors and files do not grow' train '*/soak_slow_test.cpp'
row 'repeated runs and 1 to 3 threads: bit-identical' train '*/trainer_test.cpp' '*threads*'
row 'gradients of every op in f64' tests autograd_tests '*/autograd/ops/*'
row 'routing invariants' tests kernels_tests '*/kernels/routing_test.cpp'
row '1, 2 and 4 ranks agree to rounding; ZeRO on and off bit-identical' train '*/data_parallel_test.cpp'
row 'ranks: mismatched keys refused, signals agreed on, flipped bits detected' \
  train '*/ranks_test.cpp'
row 'launcher: dead and silent ranks, restarts, no rank outlives it' \
  train '*/launch/launch_test.cpp,*/launch/rank_failure_test.cpp,*/launch/restart_policy_test.cpp'
row 'ranks on several hosts, simulated on one' train '*/several_nodes_test.cpp'
row 'ranks on virtual hosts with separate network namespaces' \
  tests/scripts/several_hosts.sh "$build/bin/smoe"
row 'ranks under torchrun and mpirun' tests/scripts/launchers.sh "$build/bin/smoe"
row 'a million malformed or hostile configs, token sets, manifests, weights, tokenizers, messages' \
  tests/scripts/fuzz.sh 1000000
exit $is_failed
