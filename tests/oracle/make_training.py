#!/usr/bin/env python3
"""Writes the reference of tests/train/huggingface/training_oracle_test.cpp: 50 steps of training a
small Mixtral model in bfloat16 with PyTorch. In the environment that make_model.py describes:

    venv/bin/python tests/oracle/make_training.py OUT --tests build/release/bin/train_tests ...
    SMOE_ORACLE=OUT build/release/bin/train_tests --source-file='*training_oracle_test.cpp'

Writes to the folder OUT:
    config.json, model.safetensors   the initial model, in float32
    train.yaml                       the run without its data, which the test generates
    reference.safetensors            token_ids [steps, global_batch, S + 1], the batches of the
                                     run as printed by the test; losses [steps] of PyTorch

PyTorch trains as smoe does: bfloat16 weights for forward and backward, copied from float32 master
weights, which torch.optim.AdamW updates with gradients that are accumulated in float32 over
micro-batches and clipped to a global norm. The rest is transformers': its routers and norms are in
bfloat16."""

import argparse
import math
import os
import subprocess
import sys

import numpy
import torch
import yaml
from safetensors.torch import save_file

import make_model

VOCAB = 257  # bytes and end of text
BALANCE_LOSS = 0.02


def parse_arguments(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("out")
    p.add_argument("--tests", required=True, help="path of train_tests")
    p.add_argument("--device", default="cpu", help="device of PyTorch")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--width", type=int, default=32)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--head-dim", type=int, default=8)
    p.add_argument("--expert-width", type=int, default=48)
    p.add_argument("--experts", type=int, default=4)
    p.add_argument("--top-k", type=int, default=2)
    p.add_argument("--length", type=int, default=32, help="tokens per sequence")
    p.add_argument("--batch", type=int, default=8, help="sequences per step")
    p.add_argument("--micro-batch", type=int, default=4)
    p.add_argument("--lr", type=float, default=3e-3)
    return p.parse_args(arguments)


def make_initial_model(a):
    a.family, a.vocab, a.tied, a.rope_theta = "mixtral", VOCAB, False, 10000.0
    torch.manual_seed(a.seed)
    model = make_model.make_random_model(a)
    model.config.router_aux_loss_coef = BALANCE_LOSS / a.top_k
    with torch.no_grad():  # as in a new run: logits near zero
        model.lm_head.weight.normal_(std=0.02)
    model.save_pretrained(a.out)


def write_run(a):
    run = {
        "run": {"name": "oracle", "seed": a.seed},
        "model": {
            "vocab_size": VOCAB, "num_layers": a.layers, "d_model": a.width,
            "num_heads": a.heads, "num_kv_heads": a.kv_heads, "head_dim": a.head_dim,
            "d_expert": a.expert_width, "num_experts": a.experts, "top_k": a.top_k,
            "router": {"balance_loss": BALANCE_LOSS},
        },
        "data": {"path": "words.h5"},
        "train": {"steps": 50, "seq_len": a.length, "micro_batch": a.micro_batch,
                  "global_batch": a.batch, "precision": "bf16"},
        "optim": {"lr": a.lr, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1,
                  "clip_norm": 1.0},
        "schedule": {"kind": "cosine", "warmup_steps": 10, "min_ratio": 0.1},
    }
    with open(os.path.join(a.out, "train.yaml"), "w", encoding="utf-8") as f:
        yaml.safe_dump(run, f, sort_keys=False)
    return run


def ask_for_batches(a, steps):
    """[steps, global_batch, S + 1]: printed by the test when there is no reference."""
    outcome = subprocess.run([a.tests, "--source-file=*training_oracle_test.cpp"],
                             env={**os.environ, "SMOE_ORACLE": a.out}, capture_output=True,
                             text=True)
    path = os.path.join(a.out, "batches.txt")
    if outcome.returncode != 0 or not os.path.exists(path):
        sys.exit(f"{a.tests} wrote no batches:\n{outcome.stdout}{outcome.stderr}")
    tokens = numpy.loadtxt(path, dtype=numpy.int64)
    os.remove(path)
    return torch.from_numpy(tokens).reshape(steps, a.batch, a.length + 1)


def lr_share(step, steps, schedule):
    warmup, least = schedule["warmup_steps"], schedule["min_ratio"]
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / (steps - warmup)
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))


class Training:
    """A model in bfloat16 with float32 master weights."""

    def __init__(self, folder, run, device):
        self.run = run
        self.model = make_model.load_model(folder, device, torch.bfloat16)
        self.weights = list(make_model.load_model(folder, device).parameters())
        optim = run["optim"]
        self.optimizer = torch.optim.AdamW(
            [{"params": [w for w in self.weights if w.dim() > 1]},
             {"params": [w for w in self.weights if w.dim() == 1], "weight_decay": 0.0}],
            lr=optim["lr"], betas=(optim["beta1"], optim["beta2"]), eps=optim["epsilon"],
            weight_decay=optim["weight_decay"])

    def add_gradients(self, ids, share):
        """Forward and backward of one micro-batch. Returns its mean cross-entropy."""
        self.model.zero_grad()
        with make_model.Routers(self.model) as routers:
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1),
                                                 ids[:, 1:].flatten())
        balance = self.run["model"]["router"]["balance_loss"] * routers.balance_loss()
        (share * (loss + balance)).backward()
        for w, p in zip(self.weights, self.model.parameters()):
            if p.grad is not None:
                w.grad += p.grad.float()
        return loss.item()

    def step(self, number, batch):
        for w in self.weights:
            w.grad = torch.zeros_like(w)
        micro_batches = batch.split(self.run["train"]["micro_batch"])
        losses = [self.add_gradients(ids, 1 / len(micro_batches)) for ids in micro_batches]
        torch.nn.utils.clip_grad_norm_(self.weights, self.run["optim"]["clip_norm"])
        share = lr_share(number, self.run["train"]["steps"], self.run["schedule"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.run["optim"]["lr"] * share
        self.optimizer.step()
        with torch.no_grad():
            for w, p in zip(self.weights, self.model.parameters()):
                p.copy_(w)
        return sum(losses) / len(losses)


def make(arguments=None):
    a = parse_arguments(arguments)
    make_initial_model(a)
    run = write_run(a)
    token_ids = ask_for_batches(a, run["train"]["steps"])
    training = Training(a.out, run, a.device)
    losses = [training.step(i + 1, batch.to(a.device)) for i, batch in enumerate(token_ids)]
    save_file({"token_ids": token_ids.int(), "losses": torch.tensor(losses)},
              os.path.join(a.out, "reference.safetensors"))
    return losses


def main():
    torch.set_num_threads(1)
    losses = make()
    print(f"loss {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
