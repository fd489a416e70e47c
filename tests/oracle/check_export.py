#!/usr/bin/env python3
"""Checks an exported run in transformers. In the environment that make_model.py describes, with
h5py, sentencepiece and protobuf:

    build/release/bin/smoe prepare --input TEXT --output TOKENS --validation TEXT ...
    build/release/bin/smoe train CONFIG data.path=TOKENS ...
    venv/bin/python tests/oracle/check_export.py RUN TEXT TOKENS

Exports RUN in shards, loads it in transformers and checks: no key is missing, unexpected or of another
shape; logits, loss and gradients match (tests/train/huggingface/oracle_test.cpp); AutoTokenizer
encodes TEXT to the first tokens of TOKENS, a token set of TEXT only, and decodes them to TEXT; the
greedy continuation of a prompt is that of `smoe generate`."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import h5py
import torch
import transformers

HERE = pathlib.Path(__file__).parent
BUILD = HERE.parent.parent / "build/release/bin"
PROMPT = "The "
NEW_TOKENS = 24


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("run")
    p.add_argument("text")
    p.add_argument("tokens")
    p.add_argument("--build", default=BUILD, help="folder of smoe and train_tests")
    return p.parse_args()


def check(holds, what):
    print(("ok    " if holds else "FAIL  ") + what)
    if not holds:
        sys.exit(1)


def check_keys(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True)
    troubles = {key: list(value)[:3] for key, value in info.items() if value}
    check(not troubles, f"every key is loaded and no other {troubles or ''}")
    return model.float().eval()


def check_numbers(a, folder):
    reference = os.path.join(folder, "reference")
    subprocess.run([sys.executable, HERE / "make_model.py", reference, "--model", folder],
                   check=True)
    test = [f"{a.build}/train_tests", "--source-file=*oracle_test.cpp"]
    outcome = subprocess.run(test, env={**os.environ, "SMOE_ORACLE": reference},
                             capture_output=True, text=True)
    figures = re.findall("MESSAGE: figure (.*)", outcome.stdout)
    check(outcome.returncode == 0 and figures, "logits, loss and gradients: " +
          (", ".join(figures) or outcome.stdout))


def check_tokenizer(a, folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = open(a.text, encoding="utf-8", newline="").read()
    with h5py.File(a.tokens) as f:
        ours = [int(token) for token in f["train/tokens"][:]]
    ids = tokenizer(text)["input_ids"]
    check(ids == ours, f"{len(ours)} tokens are the same")
    check(tokenizer.decode(ids[1:]) == text, "and give the text back")
    check(ids[0] == tokenizer.bos_token_id == tokenizer.eos_token_id, "end of text is in front")
    return tokenizer


def check_generation(a, model, tokenizer):
    prompt = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**prompt, max_new_tokens=NEW_TOKENS, do_sample=False,
                             pad_token_id=tokenizer.eos_token_id)
    theirs = tokenizer.decode(out[0][1:], skip_special_tokens=True)
    ours = subprocess.run([f"{a.build}/smoe", "generate", a.run, "--prompt", PROMPT, "--max-tokens",
                           str(NEW_TOKENS), "--temperature", "0"],
                          check=True, capture_output=True).stdout.decode("utf-8")
    check(ours == theirs + "\n", f"greedy text is the same: {ours!r}, {theirs!r}")


def main():
    a = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.join(temporary, "model")
        subprocess.run([f"{a.build}/smoe", "export", a.run, folder, "--max-shard-bytes", "1000000"],
                       check=True)
        model = check_keys(folder)
        check_numbers(a, folder)
        tokenizer = check_tokenizer(a, folder)
        check_generation(a, model, tokenizer)


if __name__ == "__main__":
    main()
