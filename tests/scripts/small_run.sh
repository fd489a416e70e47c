# shellcheck shell=bash
# Sourced by scripts that disturb a run: two small layers on one thread, which train in seconds.

# make_small_run SMOE: writes tokens.h5 and config.yaml, a run of 60 steps, to the current folder.
make_small_run() {
  seq 1 20000 | tr '\n' ' ' >text.txt
  "$1" prepare --input text.txt --output tokens.h5 || return 1
  cat >config.yaml <<END
run: {name: run, dir: disk, seed: 1, threads: 1}
model: {num_layers: 2, d_model: 64, num_heads: 4, num_kv_heads: 2, head_dim: 16, d_expert: 64, num_experts: 4, top_k: 2}
data: {path: tokens.h5}
train: {steps: 60, seq_len: 32, micro_batch: 1, global_batch: 2, eval_batches: 1, eval_every: 10}
optim: {lr: 0.01}
log: {every: 1}
checkpoint: {every: 4}
END
}
