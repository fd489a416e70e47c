#!/usr/bin/env python3
"""Compares smoe's tokens with those of Hugging Face's tokenizers and of SentencePiece on odd strings
in many scripts. In an environment with tokenizers, sentencepiece, h5py and numpy:

    venv/bin/python tests/oracle/compare_tokenizers.py FOLDER [--count N] [--smoe PATH]

FOLDER is that of a model as `smoe export` writes it, with tokenizer.model and tokenizer.json. Checks
that all three give the same ids, and that tokenizer.json decodes them to the string. Strings with
U+2581, which stands for a space within pieces, are left out."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

import h5py
import sentencepiece
import tokenizers

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
           (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF),
           (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
           (0xFB00, 0xFB4F), (0x1F300, 0x1F6FF)]
WORDS = ["the", "of", "expert", "token", " ", "  ", "\n", "\n\n", "\t", "\r\n", "line", " words",
         " 12", "0", "9", ".", ", ", "<s>", "</s>", "<0x41>"]


def odd_string(source):
    parts = []
    for _ in range(source.randrange(1, 25)):
        if source.random() < 0.6:
            parts.append(source.choice(WORDS))
        else:
            parts.append(chr(source.randint(*source.choice(SCRIPTS))))
    return "".join(parts)


def tokens_of_smoe(smoe, model, strings):
    """The ids of each string as a document, without those before and after it."""
    with tempfile.TemporaryDirectory() as folder:
        lines, output = os.path.join(folder, "a.jsonl"), os.path.join(folder, "a.h5")
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in strings)
        subprocess.run([smoe, "prepare", "--input", lines, "--output", output, "--tokenizer", model,
                        "--validation-fraction", "0"], check=True, stdout=subprocess.DEVNULL)
        with h5py.File(output) as file:
            tokens, starts = file["train/tokens"][:], file["train/documents"][:]
    ends = list(starts[1:]) + [len(tokens)]
    return [tokens[begin:end].tolist() for begin, end in zip(starts, ends)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--count", type=int, default=100000)
    p.add_argument("--smoe", default="build/release/bin/smoe")
    a = p.parse_args()
    model = os.path.join(a.folder, "tokenizer.model")
    pieces = sentencepiece.SentencePieceProcessor(model_file=model)
    fast = tokenizers.Tokenizer.from_file(os.path.join(a.folder, "tokenizer.json"))
    fast.encode_special_tokens = True
    source = random.Random(1)
    strings = [odd_string(source) for _ in range(a.count)]
    differing = 0
    for text, ids in zip(strings, tokens_of_smoe(a.smoe, model, strings)):
        wanted = fast.encode(text).ids  # with the token before each document
        found = ids[:len(wanted)], wanted[1:], fast.decode(wanted[1:], skip_special_tokens=False)
        if found == (wanted, pieces.encode(text), text) and len(ids) <= len(wanted) + 1:
            continue
        differing += 1
        if differing <= 5:
            print(repr(text), ids, wanted, pieces.encode(text))
    print(f"{a.count} strings, {differing} differ")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
