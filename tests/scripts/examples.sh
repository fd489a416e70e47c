#!/bin/bash
# Runs every example of README.md, docs/ and the --help of every command on small data: each line of a
# ```sh block, or below "Examples:", that begins with smoe (or jq, where that is installed). Commands
# that need a GPU or several hosts are only parsed: their configuration is printed. What an example
# expects to exist is made first. ```cpp blocks are compiled, ```yaml blocks read as a part of a
# configuration, ```python blocks run where their modules are installed; ```c++ and ```yml blocks are
# parts of examples/, which the package test builds and runs.
# usage: tests/scripts/examples.sh path/to/smoe
set -euo pipefail

smoe=$(realpath "$1")
source=$(realpath "$(dirname "$0")/../..")
folder=$(mktemp -d /tmp/smoe-examples-XXXXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir bin configs data runs models
ln -s "$smoe" bin/smoe
export PATH=$folder/bin:$PATH

examples() {
  awk '/^```/ { is_sh = $0 == "```sh" } is_sh && /^ *(smoe|jq) / { sub(/ *#.*/, ""); print }' \
    "$source/README.md" "$source"/docs/*.md
  for command in $(smoe --help | sed -n '/^Subcommands:/,$s/^  \([a-z]*\) .*/\1/p'); do
    smoe "$command" --help | sed -n '/^Examples:/,$s/^ *\(smoe .*\)/\1/p'
  done
}

# The shipped configurations, at sizes of seconds. Sections keep their names, so overrides apply.
shrink() {
  sed -e 's/num_layers: .*/num_layers: 1/; s/d_model: .*/d_model: 32/; s/d_expert: .*/d_expert: 32/' \
    -e 's/num_heads: .*/num_heads: 2/; s/num_kv_heads: .*/num_kv_heads: 2/; s/head_dim: .*/head_dim: 16/' \
    -e 's/seq_len: .*/seq_len: 64/; s/eval_batches: .*/eval_batches: 1/; s/eval_every: .*/eval_every: 4/' \
    -e 's/warmup_steps: .*/warmup_steps: 1/' \
    -e 's/^  steps: .*/  steps: 8/; /^  every: 1000/d; /keep_every/d; /^  device:/d; s/precision: .*/precision: fp32/' \
    -e 's/micro_batch: 16 .*/micro_batch: 8/; s/global_batch: 256 .*/global_batch: 64/' "$1"
}

make_inputs() {
  mkdir -p texts more train valid code my-texts data/perl-doc
  for i in $(seq 1 400); do echo "The function $((i * 7919 % 1000)) returns the value $i of the list."; done |
    tee book.txt texts/a.txt more/b.txt train/c.txt valid/d.txt code/e.txt my-texts/f.txt >data/perl-doc/g.txt
  gzip -k book.txt && mv book.txt.gz more.txt.gz
  for i in $(seq 1 200); do echo "{\"text\": \"Line $i of the web, $((i * 31 % 97))\"}"; done >web.jsonl
  echo "What is" >question.txt
  for name in tiny moa-tiny small-8x smoe-1.5b moa-1.5b; do shrink "$source/configs/$name.yaml" >configs/$name.yaml; done
  smoe prepare --input data/perl-doc --output data/tiny.h5
  smoe prepare --input web.jsonl --tokenizer bpe --vocab-size 296 --output data/web.h5
  smoe tokenizer --input web.jsonl code/ --vocab-size 296 --output data/tok.model
  for set in corpus-32k my mine set other books; do cp data/tiny.h5 data/$set.h5; done
  smoe train configs/tiny.yaml train.steps=600 train.micro_batch=1 train.global_batch=1 \
    train.eval_every=0 log.every=100
  smoe train configs/tiny.yaml run.name=web data.path=data/web.h5 train.steps=8
  smoe profile configs/tiny.yaml --steps 1 --warmup 1
  cp -r runs/tiny runs/low-lr
  for run in my books; do cp -r runs/web runs/$run; done
  smoe export runs/tiny models/tiny
  smoe export runs/tiny models/mixtral
  smoe export runs/tiny model --max-shard-bytes $(($(stat -c %s models/tiny/model.safetensors) * 3 / 5))
  smoe import models/mixtral runs/mixtral
  mkdir saved && cp -r runs data models configs saved
}

# Restores what the examples of other pages have changed or removed.
restore() {
  rm -rf runs data models
  cp -r saved/runs saved/data saved/models .
}

# Removes what the example is to create.
make_room_for() {
  case $1 in
    'smoe prepare '*--force*) ;;
    'smoe prepare '* | 'smoe tokenizer '*) rm -f "$(sed 's/.*--output \([^ ]*\).*/\1/' <<<"$1")" ;;
    'smoe export '* | 'smoe import '*) rm -rf "$(awk '{ print $4 }' <<<"$1")" ;;
    'smoe train '* | 'smoe launch '*) rm -rf runs/tiny runs/my runs/low-lr runs/two runs/wide ;;
  esac
}

# The small text has fewer pieces than the vocabulary that an example asks for.
run_example() {
  local line=${1//--vocab-size [0-9]*000/--vocab-size 296}
  case $line in
    *--nnodes* | *'nproc-per-node gpu'* | *' ...'*)
      local rest=${line##* train }
      [ "$rest" = ... ] || [ "$rest" = "$line" ] || bash -c "smoe train $rest --print-config"
      ;;
    *) timeout 120 bash -c "$line" ;;
  esac
}

# blocks LANGUAGE: writes the blocks of a language to the files block-N.LANGUAGE, and lists them.
blocks() {
  awk -v language="$1" '
    /^```/ { is_in = $0 == "```" language; count += is_in; next }
    is_in { print > ("block-" count "." language) }' "$source/README.md" "$source"/docs/*.md
  ls block-*."$1"
}

# The names that C++ examples do not declare themselves.
compile_cpp() {
  {
    for header in autograd/gradient_step autograd/ops core/device layers/linear layers/parallel_linear \
      optim/adamw optim/clip; do
      echo "#include \"$header.h\""
    done
    echo 'using namespace smoe;'
    echo 'void example(Variable x, Tensor target, Variable logits, Parameter& w1, Parameter& w2) {'
    cat "$1"
    echo '}'
  } >"$1.cpp"
  "${CXX:-g++}" -std=c++20 -fsyntax-only -I "$source" "$1.cpp"
}

# A section in place of that of the same name in a whole configuration.
read_yaml() {
  awk -v section="$(head -1 "$1")" '/^[a-z]/ { is_out = $0 == section } !is_out' configs/tiny.yaml >whole.yaml
  cat "$1" >>whole.yaml
  smoe train whole.yaml --print-config
}

run_python() {
  local module
  for module in $(sed -n 's/^import //p' "$1"); do python3 -c "import $module" 2>/dev/null || return 0; done
  python3 "$1"
}

make_inputs >output 2>&1 || { tail -5 output && echo "FAILED: the inputs of the examples" && exit 1; }
count=0 is_failed=0
run() { # TITLE COMMAND...
  local title=$1
  shift
  count=$((count + 1))
  "$@" >output 2>&1 </dev/null && return
  is_failed=1
  printf 'FAILED: %s\n' "$title"
  tail -3 output | sed 's/^/  /'
}
for block in $(blocks cpp); do run "$block: $(head -1 "$block")" compile_cpp "$block"; done
for block in $(blocks yaml); do run "$block: $(head -1 "$block")" read_yaml "$block"; done
for block in $(blocks python); do run "$block: $(head -1 "$block")" run_python "$block"; done
while read -r line; do
  [ "${line%% *}" != jq ] || command -v jq >/dev/null || continue
  restore
  make_room_for "$line"
  run "$line" run_example "$line"
done < <(examples | awk '!seen[$0]++')
[ $count -ge 30 ] || { echo "FAILED: only $count examples were found" && is_failed=1; }
echo "$count examples"
exit $is_failed
