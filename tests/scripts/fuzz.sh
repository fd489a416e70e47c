#!/bin/bash
# Gives N damaged and crafted inputs to every parser of files and messages, under ASan + UBSan; the two
# that start a process per input get N / 20. Prints one line per parser.
#
#   tests/scripts/fuzz.sh [N [SEED]]   default 20000 and 1; 1000000 takes a night
#
# A failing input is kept in build/fuzz; its line shows the command that reproduces it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/setup.sh

runs=${1:-20000}
seed=${2:-1}
[[ $# -le 2 && "$runs$seed" =~ ^[0-9]+$ ]] || fail "takes two numbers at most; got $*"
build asan smoe_fuzz
mkdir -p build/fuzz

say "Inputs: $runs per parser, seed $seed"
fuzz() {
  build/asan/bin/smoe_fuzz "$1" --runs "$2" --seed "$seed" --keep build/fuzz
}
export -f fuzz
export seed
for target in config inspect manifest metrics mixtral rendezvous rendezvous_server safetensors \
  tokenizer tokenizer_pieces weight_index; do
  printf '%s %s\n' "$target" "$runs"
done > build/fuzz/jobs
printf 'hdf5 %s\ntoken_set %s\n' $((runs / 20)) $((runs / 20)) >> build/fuzz/jobs
xargs -P "$(nproc)" -L 1 bash -c 'fuzz "$0" "$1"' < build/fuzz/jobs
