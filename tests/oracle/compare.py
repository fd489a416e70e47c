#!/usr/bin/env python3
"""Compares smoe with transformers on PyTorch over many seeds and shapes: writes each reference, runs
train_tests on it, and prints a table of the differences. In the environment that make_model.py
describes, with pyyaml:

    venv/bin/python tests/oracle/compare.py build/release/bin --device cuda"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

import torch
import transformers

import make_model
import make_training

# From tiny to realistic widths: heads of 64 and 128 and widths of whole tiles have dedicated GPU
# kernels.
SHAPES = {
    "D 32, 2 layers, E 4, K 2": "--rope-theta 1e6",
    "D 40, 3 layers, E 5, K 1, tied": "--width 40 --layers 3 --experts 5 --top-k 1 --tied "
                                      "--expert-width 56 --length 33 --batch 3 --vocab 97",
    "D 64, 4 layers, E 16, K 4": "--width 64 --layers 4 --experts 16 --top-k 4 --heads 4 "
                                 "--kv-heads 1 --head-dim 16 --expert-width 40 --vocab 257 "
                                 "--length 50 --batch 3 --margin 2e-4",
    "D 256, 4 layers, E 8, K 2": "--width 256 --layers 4 --experts 8 --heads 4 --kv-heads 2 "
                                 "--head-dim 64 --expert-width 384 --vocab 1000 --length 96 "
                                 "--batch 4 --margin 2e-4",
    "D 512, 2 layers, E 8, K 2": "--width 512 --layers 2 --experts 8 --heads 4 --kv-heads 1 "
                                 "--head-dim 128 --expert-width 640 --vocab 1024 --length 128 "
                                 "--batch 8 --margin 2e-4",
    "JetMoE, D 32, 2 layers, E 4, K 2": "--family jetmoe --kv-heads 2",
    "JetMoE, D 40, 3 layers, E 5, K 1": "--family jetmoe --width 40 --layers 3 --experts 5 --top-k 1 "
                                        "--kv-heads 3 --expert-width 56 --length 33 --batch 3 "
                                        "--vocab 97 --tied",
    "JetMoE, D 256, 3 layers, E 8, K 4": "--family jetmoe --width 256 --layers 3 --experts 8 "
                                         "--top-k 4 --kv-heads 2 --head-dim 64 "
                                         "--expert-width 384 --vocab 1000 --length 96 "
                                         "--batch 4 --margin 2e-4",
}
# transformers rounds the logits of JetMoE's routers to bfloat16. With one expert per token that
# reroutes up to 4 % of the tokens of this small model, more than two implementations may differ by.
F32_ONLY = {"JetMoE, D 40, 3 layers, E 5, K 1"}
SEEDS = (1, 2)
LEAST_ALIKE = 0.99
TRAININGS = {
    "D 32, 2 layers, E 4, K 2": "",
    "D 128, 4 layers, E 8, K 2": "--width 128 --layers 4 --heads 4 --head-dim 32 --experts 8 "
                                 "--expert-width 192 --length 64 --lr 6e-4",
}


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("bin", help="folder of train_tests")
    p.add_argument("--device", default="cpu", help="device of smoe: cpu or cuda")
    return p.parse_args()


def references(a, torch_device):
    """By kind: (description, function that writes the reference to a folder)."""
    def makes(module, options):
        return lambda folder: module.make([folder, "--device", torch_device] + options)

    kinds = {"f32": [], "bf16": [], "training": []}
    for precision in ("f32", "bf16"):
        for shape, options in SHAPES.items():
            if precision == "bf16" and shape in F32_ONLY:
                continue
            for seed in SEEDS:
                kinds[precision].append((f"{shape}, seed {seed}", makes(
                    make_model,
                    options.split() + ["--seed", str(seed), "--precision", precision])))
    for shape, options in TRAININGS.items():
        for seed in SEEDS:
            kinds["training"].append((f"{shape}, seed {seed}", makes(
                make_training,
                options.split() + ["--seed", str(seed), "--tests", f"{a.bin}/train_tests"])))
    return kinds


def compare(a, folder):
    """Returns {figure: (value, bound)}, and whether all tests passed."""
    outcome = subprocess.run([f"{a.bin}/train_tests", "--source-file=*oracle_test.cpp"],
                             env={**os.environ, "SMOE_ORACLE": folder}, capture_output=True,
                             text=True)
    found = re.findall(r"MESSAGE: figure (.*): (\S+) <= (\S+)", outcome.stdout)
    is_well = outcome.returncode == 0 and bool(found)
    if not is_well:
        print(outcome.stdout + outcome.stderr)
    return {name: (float(value), float(bound)) for name, value, bound in found}, is_well


def compared(a, of_kind):
    """[(description, reference, outcome)]; the next reference is written while one is compared."""
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = []
        for i, (what, make) in enumerate(of_kind):
            made = make(os.path.join(folder, str(i)))
            jobs.append((what, made, pool.submit(compare, a, os.path.join(folder, str(i)))))
        return [(what, made, job.result()) for what, made, job in jobs]


class Table:
    """The table of one kind, with its figures in columns."""

    def __init__(self, kind):
        self.kind = kind
        self.has_head = False

    def add(self, what, figures, is_well):
        if not self.has_head:
            print(f"\n{self.kind:<42}" + "".join(f"{name:>14}" for name in figures))
            print(f"{'  at most':<42}" + "".join(f"{bound:>14.2g}" for _, bound in figures.values()))
            self.has_head = True
        print(f"{what:<42}" + "".join(f"{value:>14.2g}" for value, _ in figures.values()) +
              ("  pass" if is_well else "  FAIL"), flush=True)


def main():
    a = parse_arguments()
    os.environ["SMOE_ORACLE_DEVICE"] = a.device
    torch.set_num_threads(1)  # as in the scripts that write references
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch_device = "cuda" if a.device == "cuda" and torch.cuda.is_available() else "cpu"
    print(f"transformers {transformers.__version__} and PyTorch {torch.__version__} on "
          f"{torch_device}, smoe on {a.device}; docs/parity.md explains the columns")
    num_failed = num_pairs = num_rerouted = 0
    for kind, of_kind in references(a, torch_device).items():
        table = Table(kind)
        for what, made, (figures, is_well) in compared(a, of_kind):
            table.add(what, figures, is_well)
            num_failed += not is_well
            if "rerouted" in figures:
                num_pairs += made["expert_ids"].numel()
                num_rerouted += figures["rerouted"][0] * made["expert_ids"].numel()
    alike = 1 - num_rerouted / num_pairs if num_pairs else 0
    print(f"\nbf16, routed by own logits: {alike:.2%} of {num_pairs} (token, expert) pairs equal, "
          f"at least {LEAST_ALIKE:.0%}: {'pass' if alike >= LEAST_ALIKE else 'FAIL'}")
    num_failed += alike < LEAST_ALIKE
    print(f"{num_failed} FAIL" if num_failed else "all pass")
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
