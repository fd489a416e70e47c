#!/bin/bash
# Trains the adapters of examples/mixture_of_lora.cpp on a run of smoe as the base: loss falls, the
# base stays, memory is what plan says, checkpoints hold the adapters alone and name the base.
#
#   tests/scripts/mixture_of_lora.sh SMOE MIXTURE_OF_LORA
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
smoe=$(realpath "$1")
lora=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir data

fail() {
  echo "mixture_of_lora: $*" >&2
  exit 1
}
# The fields of the first or last report of a kind: report first|last step '.loss'
report() {
  jq -s "map(select(.kind == \"$2\"))[$([ "$1" = first ] && echo 0 || echo -1)]$3" \
    runs/lora/metrics.jsonl
}
is_less() { awk "BEGIN { exit !($1 < $2) }"; }

for i in $(seq 1 3000); do echo "The function $((i * 7919 % 1000)) returns the value $i."; done > base.txt
for i in $(seq 1 3000); do echo "{\"id\": $((i * 31 % 97)), \"name\": \"item $i\", \"ok\": true}"; done > other.txt
"$smoe" prepare --input base.txt --output data/tiny.h5 > /dev/null
"$smoe" prepare --input other.txt --output data/other.h5 > /dev/null
small=(train.seq_len=64 train.eval_batches=4 log.every=5 schedule.warmup_steps=5)
"$smoe" train "$root/configs/tiny.yaml" "${small[@]}" train.steps=60 train.eval_every=0 > base.log
base_before=$(cat runs/tiny/checkpoints/*/shard-* | sha256sum)

config=("$root/examples/mixture_of_lora.yaml" "${small[@]}" train.steps=60 train.eval_every=20
  checkpoint.every=20)
"$lora" plan "${config[@]}" --json > plan.json
"$lora" train "${config[@]}" > lora.log
grep -q '^trained .* of the parameters; the others are the base' lora.log || fail "no line on the base"
[ "$(cat runs/tiny/checkpoints/*/shard-* | sha256sum)" = "$base_before" ] || fail "the base has changed"
first=$(report first validation .loss) last=$(report last validation .loss)
echo "validation loss on the other text: $first before, $last after"
is_less "$last" "0.7 * $first" || fail "the loss did not fall"

for category in parameters gradients optimizer; do
  planned=$(jq ".memory_bytes.peak_by_category.$category" plan.json)
  [ "$planned" = "$(report last step ".memory.$category")" ] ||
    fail "$category: planned $planned bytes, used $(report last step ".memory.$category")"
done
trained=$(jq .parameters.trained plan.json)
is_less "$(jq .memory_bytes.peak_by_category.gradients plan.json)" "4.5 * $trained" ||
  fail "there are gradients of more than the $trained trained parameters"

manifests=(runs/lora/checkpoints/*/manifest.json)
jq -e '[.shards[].tensors[].name | contains(".lora.")] | all' "${manifests[-1]}" > /dev/null ||
  fail "a checkpoint holds more than the adapters"
[ "$(jq -r .base_digest "${manifests[@]}" | sort -u | grep -c '^[0-9a-f]\{32\}$')" = 1 ] ||
  fail "checkpoints do not name one base"
# The layers of a report: the routers of the experts and of the adapters.
[ "$(report last step '.layers.expert_rows | length')" = 8 ] || fail "not all routers are reported"

"$lora" eval runs/lora --data data/other.h5 > eval.log
"$lora" generate runs/lora --prompt '{"id": 5' --max-tokens 20 --temperature 0 > text.log
[ "$(wc -c < text.log)" -ge 20 ] || fail "the adapters generate nothing"
! "$smoe" eval runs/lora --data data/other.h5 2> unknown.log || fail "smoe knows the kind"
grep -q 'model.mlp.kind: must be one of moe; got' unknown.log || fail "$(cat unknown.log)"
! "$lora" plan "${config[@]}" model.mlp.kind=lorra 2> unknown.log || fail "lorra is a kind"
grep -q 'model.mlp.kind: must be one of moe, mixture_of_lora; got lorra' unknown.log ||
  fail "$(cat unknown.log)"

mv runs/tiny runs/moved
! "$lora" eval runs/lora --data data/other.h5 2> missing.log || fail "the base is not missed"
grep -q 'the base that is not trained must be there; runs/tiny' missing.log || fail "$(cat missing.log)"
cp -r runs/moved runs/tiny
"$smoe" train "$root/configs/tiny.yaml" "${small[@]}" train.steps=62 train.eval_every=0 \
  --change train.steps > base.log
! "$lora" eval runs/lora --data data/other.h5 2> other.log || fail "another base is not noticed"
grep -q 'its base must have the digest' other.log || fail "$(cat other.log)"
