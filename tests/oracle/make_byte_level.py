#!/usr/bin/env python3
"""Trains byte-level tokenizers of the kinds that models have, on text of its own, and writes 200 odd
strings with the ids that Hugging Face's tokenizers give them. In an environment with tokenizers:

    venv/bin/python tests/oracle/make_byte_level.py FOLDER

tests/oracle/byte-level is the output."""

import json
import os
import random
import sys
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

from compare_tokenizers import SCRIPTS, odd_string

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace("{1,3}", "")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def splits(*patterns):
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence(
        steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


KINDS = {  # pre-tokenizer, normalizer, names of special tokens, whether the first begins texts
    "gpt2": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, ["<|endoftext|>"], False),
    "llama3": (splits(LLAMA3), None, ["<|begin_of_text|>", "<|end_of_text|>"], True),
    "qwen": (splits(QWEN), normalizers.NFC(), ["<|endoftext|>", "<|im_end|>"], False),
    "gpt4o": (splits(GPT4O), None, ["<|endoftext|>"], False),
    "deepseek": (splits(r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK), None,
                 ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"],
                 True),
    "digits": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False)]),
               None, ["<|endoftext|>"], False),
}


def training_text(source):
    """Sentences of made-up words, in many scripts."""
    words = ["the", "of", "expert", "token", "router", "It's", "we'll", "I'M", "don't", "x = 10;",
             "2024", "line\n", "\n\n", "    ", "\t", "na\u00efve", "\u0441\u043b\u043e\u0432\u043e"]
    for begin, end in SCRIPTS:
        for _ in range(12):
            words.append("".join(chr(source.randint(begin, end)) for _ in range(source.randint(1, 4))))
    for _ in range(3000):
        yield " ".join(source.choice(words) for _ in range(12))


def tokenizer_of(kind, vocab_size):
    pre_tokenizer, normalizer, special, begins = KINDS[kind]
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        training_text(random.Random(7)),
        trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(special)
    if kind == "qwen":  # tokens of text
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False),
                              AddedToken("<tool>\n", normalized=False),
                              AddedToken("\u00e9\u00e9", normalized=True)])
    if begins:
        first = special[0]
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{first} $A", pair=f"{first} $A {first}:1 $B:1",
                                          special_tokens=[(first, tokenizer.token_to_id(first))])])
    return tokenizer, special[-1]


def main():
    folder = sys.argv[1]
    source = random.Random(3)
    strings = [odd_string(source) for _ in range(200)]
    assert any(unicodedata.normalize("NFC", text) != text for text in strings)
    expected = {"strings": strings}
    for kind in KINDS:
        tokenizer, end = tokenizer_of(kind, 420)
        os.makedirs(os.path.join(folder, kind), exist_ok=True)
        path = os.path.join(folder, kind, "tokenizer.json")
        text = json.loads(tokenizer.to_str())
        if kind == "gpt2":  # as written by earlier versions
            text["model"]["merges"] = [" ".join(pair) for pair in text["model"]["merges"]]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(text, file, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(folder, kind, "tokenizer_config.json"), "w", encoding="utf-8") as file:
            json.dump({"eos_token": end}, file)
        tokenizer = Tokenizer.from_file(path)
        tokenizer.encode_special_tokens = True
        expected[kind] = [tokenizer.encode(s, add_special_tokens=False).ids for s in strings]
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump(expected, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
