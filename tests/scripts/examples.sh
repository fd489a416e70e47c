#!/bin/bash
# Runs every example of README.md, CONTRIBUTING.md, docs/, the folders' READMEs and the --help of every
# command on small data: each line of a ```sh block, or below "Examples:". check_line says how each kind
# of line is checked; a kind that it does not know fails. What an example expects to exist is made
# first. ```cpp blocks are compiled, ```yaml blocks read as a part of a configuration, ```python blocks
# run where their modules are installed; ```c++ and ```yml blocks are parts of examples/, which the
# package test builds and runs.
# usage: tests/scripts/examples.sh path/to/smoe
set -euo pipefail

smoe=$(realpath "$1")
build=$(dirname "$(dirname "$smoe")")
source=$(realpath "$(dirname "$0")/../..")
folder=$(mktemp -d /tmp/smoe-examples-XXXXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir bin configs data runs models
ln -s "$smoe" bin/smoe
export PATH=$folder/bin:$PATH

pages=("$source"/{README,CONTRIBUTING}.md "$source"/docs/*.md "$source"/*/README.md)

# Commands, one per line, without comments and joined where a line continues. A block that begins with
# #! is a script: it is written to script-N.sh and runs as a whole.
examples() {
  awk '
    /^```/ { is_sh = $0 == "```sh"; script = ""; next }
    is_sh && /^#!/ { script = "script-" ++scripts ".sh"; print "bash " script }
    script != "" { print > script; next }
    is_sh {
      sub(/^ +/, ""); sub(/ *#.*/, "")
      is_open = sub(/ *\\$/, " ")
      line = line $0
      if (is_open) next
      if (line != "") print line
      line = ""
    }' "${pages[@]}"
  for command in $(smoe --help | sed -n '/^Subcommands:/,$s/^  \([a-z]*\) .*/\1/p'); do
    smoe "$command" --help | sed -e ':join; /\\$/{N; s/ *\\\n */ /; b join}' |
      sed -n '/^Examples:/,$s/^ *\(smoe .*\)/\1/p'
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
  echo 0123456789abcdef >id.txt
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
    'smoe train '* | 'smoe launch '* | torchrun* | bash*) rm -rf runs/{tiny,my,low-lr,two,wide,smoe-1.5b} ;;
  esac
}

# What starts ranks on a cluster: torchrun, most of whose flags `smoe launch` has, and srun with two tasks.
make_stand_ins() {
  cat >bin/torchrun <<'SH'
#!/bin/bash
line=" $* "
exec smoe launch ${line/ --rdzv-backend c10d / }
SH
  cat >bin/srun <<'SH'
#!/bin/bash
while [[ $1 = -* ]]; do shift; done
export SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=2
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" && wait $!
SH
  printf '#!/bin/sh\necho 127.0.0.1\n' >bin/scontrol
  chmod +x bin/*
}

# expect CODE TEXT LINE: the line fails with this exit code and message.
expect() {
  local code=0
  bash -c "$3" >failure 2>&1 || code=$?
  [ $code = "$1" ] && grep -q -e "$2" failure || { cat failure && echo "exit code $code" && return 1; }
}

# A job of two hosts, both of them here, with a rank for every GPU that a host would have.
run_nodes() {
  local line=${1//10.0.0.1/127.0.0.1}
  line=${line//29400/$port} line=${line//--rdzv-id-file/--master-port $port --rdzv-id-file}
  line=$(sed 's/--nproc-per-node [a-z0-9]*/--nproc-per-node 1/; s/--node-rank [^ ]*/--node-rank $NODE/' <<<"$line")
  NODE=1 timeout 120 bash -c "$line" &
  NODE=0 timeout 120 bash -c "$line" && wait $!
}
port=$((20000 + RANDOM % 9000))

# presets LINE: cmake knows the presets that the line names.
presets() {
  local name
  for name in $(grep -o -e '--preset [a-z]*' <<<"$1" | cut -d' ' -f2); do
    (cd "$source" && cmake --list-presets=all) | grep "\"$name\"" || return 1
  done
}

# What ctest would run is listed. The preset's folder is this build's.
tests() {
  presets "$1" && bash -c "${1/--preset release/--test-dir $build} -N" | grep 'Total Tests: [1-9]'
}

parses() { [ -x "$source/$1" ] && bash -n "$source/$1"; }

# How each kind of line is checked. The small text has fewer pieces than the vocabulary that an example
# asks for, and there are two ranks for any number of GPUs.
check_line() {
  local line=${1//--vocab-size [0-9]*000/--vocab-size 296}
  case $line in
    *--nnodes*) run_nodes "$line" ;;
    'smoe '* | 'jq '* | 'torchrun '* | 'bash '* | 'export PATH='*) timeout 120 bash -c "${line/per-node gpu/per-node 2}" ;;
    'SMOE_FAULT='*:kill*) expect 137 '' "$line" ;;
    'SMOE_FAULT='*:ENOSPC*) expect 1 'No space left on device' "$line" ;;
    'python3 -c '*) run_python "$line" bash -c "$line" ;;
    'python3 tests/'*) timeout 120 bash -c "python3 $source/${line#python3 }" ;;
    'ctest '*) tests "$line" ;;
    'cmake --preset '*) presets "$line" ;;                        # builds
    ./quickstart.sh* | ./test.sh*) parses "${line%% *}" ;;    # installs packages and builds
    *tests/scripts/*.sh) parses "${line##* }" ;;                  # need GPUs or Python's packages
    tests/bench/scaling*) ;;                                      # the test bench/scaling
    'tensorboard '*) ;;                                           # serves until it is stopped
    'cmake --install '* | 'cmake -S '* | 'cmake --build '* | build/examples/*) ;;  # tests/scripts/package.sh
    *) echo 'no rule says how this line is checked' && return 1 ;;
  esac
}

# blocks LANGUAGE: writes the blocks of a language to the files block-N.LANGUAGE, and lists them.
blocks() {
  awk -v language="$1" '
    /^```/ { is_in = $0 == "```" language; count += is_in; next }
    is_in { print > ("block-" count "." language) }' "${pages[@]}"
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

# run_python TEXT COMMAND...: runs the command if there are the modules that the text imports.
run_python() {
  local module
  for module in $(grep -o 'import [a-z0-9_]*' <<<"$1" | cut -d' ' -f2); do
    python3 -c "import $module" 2>/dev/null || return 0
  done
  "${@:2}"
}

make_stand_ins
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
examples | awk '!seen[$0]++' >lines
for block in $(blocks cpp); do run "$block: $(head -1 "$block")" compile_cpp "$block"; done
for block in $(blocks yaml); do run "$block: $(head -1 "$block")" read_yaml "$block"; done
for block in $(blocks python); do run "$block: $(head -1 "$block")" run_python "$(cat "$block")" python3 "$block"; done
while read -r line; do
  [ "${line%% *}" != jq ] || command -v jq >/dev/null || continue
  restore
  make_room_for "${line#SMOE_FAULT=* }"
  run "$line" check_line "$line"
done <lines
[ $count -ge 30 ] || { echo "FAILED: only $count examples were found" && is_failed=1; }
echo "$count examples"
exit $is_failed
