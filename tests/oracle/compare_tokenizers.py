#!/usr/bin/env python3
"""Compares smoe's tokens with those of Hugging Face's tokenizers and of SentencePiece on odd strings
in many scripts. In an environment with tokenizers, h5py, numpy and, for a tokenizer.model,
sentencepiece:

    venv/bin/python tests/oracle/compare_tokenizers.py FOLDER [--count N] [--smoe PATH]

FOLDER is that of a model: with tokenizer.json, and tokenizer.model where `smoe export` wrote one.
Checks that all give the same ids, and that those of SentencePiece are decoded to the string."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

import unicodedata


SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
           (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF),
           (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
           (0xFB00, 0xFB4F), (0x1F300, 0x1F6FF)]
WORDS = ["the", "of", "expert", "token", " ", "  ", "\n", "\n\n", "\t", "\r\n", "line", " words",
         " 12", "0", "9", ".", ", ", "<s>", "</s>", "<0x41>", "'s", "'LL", "don't", "123456",
         "<|endoftext|>", "<tool>", "<tool>\n", "e\u0301", "\u00e9\u00e9", "\r", "\u3000", "\x00", "'\u017f",
         "\u180e", "\u0085", "\u212a", "\u200b", "\u2028"]


def odd_string(source):
    """Without characters that a version of Unicode may lack."""
    parts = []
    for _ in range(source.randrange(1, 25)):
        if source.random() < 0.6:
            parts.append(source.choice(WORDS))
        else:
            character = chr(source.randint(*source.choice(SCRIPTS)))
            parts.append(character if unicodedata.category(character) != "Cn" else "?")
    return "".join(parts)


def tokens_of_smoe(smoe, model, strings):
    """The ids of each string as a document, without those before and after it."""
    import h5py
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
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--smoe", default="build/release/bin/smoe")
    a = p.parse_args()
    import tokenizers
    model = os.path.join(a.folder, "tokenizer.model")
    pieces = None
    if os.path.exists(model):
        import sentencepiece
        pieces = sentencepiece.SentencePieceProcessor(model_file=model)
    path = os.path.join(a.folder, "tokenizer.json")
    fast = tokenizers.Tokenizer.from_file(path)
    fast.encode_special_tokens = True
    source = random.Random(a.seed)
    strings = [odd_string(source) for _ in range(a.count)]
    if pieces:
        strings = [text.replace("\x00", "") or "x" for text in strings]
    differing = 0
    for text, ids in zip(strings, tokens_of_smoe(a.smoe, model if pieces else path, strings)):
        wanted = fast.encode(text, add_special_tokens=False).ids
        is_same = ids[1:1 + len(wanted)] == wanted and len(ids) <= len(wanted) + 2
        if is_same and (not pieces or (pieces.encode(text), fast.decode(wanted)) == (wanted, text)):
            continue
        differing += 1
        if differing <= 5:
            print(repr(text), ids, wanted)
    print(f"{a.count} strings, {differing} differ")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
