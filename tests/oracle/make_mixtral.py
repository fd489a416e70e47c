#!/usr/bin/env python3
"""Makes the reference that tests/train/huggingface/oracle_test.cpp holds this project to: a small
random Mixtral model of Hugging Face's transformers, and what PyTorch computes with it.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    venv/bin/python tests/oracle/make_mixtral.py OUT --seed 1 --layers 2 --experts 4 --top-k 2 ...
    SMOE_ORACLE=OUT build/release/bin/train_tests --source-file='*oracle_test.cpp'

Writes to the folder OUT, in float32:
    config.json, model*.safetensors   the model, as save_pretrained leaves it
    reference.safetensors             token_ids i32 [B, S]; logits [B, S, V]; loss [1], the mean
                                      cross-entropy of predicting each next token; gradient.NAME of
                                      that loss for each tensor NAME of the model's files; margins
                                      [layers], the least difference between the probabilities of
                                      the last expert chosen and the first one not chosen; with one
                                      layer also balance_loss [1], transformers' load balancing loss
                                      over top_k, and balance_gradient.NAME of it
Token ids are drawn again until all margins are at least --margin, so that rounding can send no
token to another expert. Names on disk are the contract: how transformers holds the weights in
memory changes between its versions."""

import argparse
import os
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("out")
    p.add_argument("--model", help="folder of a model to take instead of a random one")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--vocab", type=int, default=61)
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--width", type=int, default=32)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--head-dim", type=int, default=8)
    p.add_argument("--expert-width", type=int, default=24)
    p.add_argument("--experts", type=int, default=4)
    p.add_argument("--top-k", type=int, default=2)
    p.add_argument("--tied", action="store_true", help="the output head is the embedding")
    p.add_argument("--rope-theta", type=float, default=10000.0)
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--length", type=int, default=19, help="tokens of a sequence")
    p.add_argument("--margin", type=float, default=1e-3)
    p.add_argument("--shard", default="5GB", help="largest file, as save_pretrained takes it")
    return p.parse_args()


EAGER = {
    "attn_implementation": "eager",
    **({"experts_implementation": "eager"} if transformers.__version__ >= "5" else {}),
}


def load_model(a):
    model = transformers.MixtralForCausalLM.from_pretrained(a.model, **EAGER).float().eval()
    c = model.config
    a.vocab, a.layers, a.top_k = c.vocab_size, c.num_hidden_layers, c.num_experts_per_tok
    return model


def make_random_model(a):
    config = transformers.MixtralConfig(
        vocab_size=a.vocab,
        hidden_size=a.width,
        intermediate_size=a.expert_width,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        num_key_value_heads=a.kv_heads,
        head_dim=a.head_dim,
        num_local_experts=a.experts,
        num_experts_per_tok=a.top_k,
        tie_word_embeddings=a.tied,
        max_position_embeddings=max(64, a.length),
        rope_theta=a.rope_theta,
        rms_norm_eps=1e-5,
        **EAGER,
    )
    model = transformers.MixtralForCausalLM(config).float().eval()
    # Weights large enough that every part of the model shows in the logits.
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(1 + 0.2 * torch.randn(p.shape))
            elif "embed_tokens" in name and not a.tied:
                p.normal_()
            else:
                p.normal_(std=p.shape[-1] ** -0.5)
    return model


def forward(model, ids):
    return model(input_ids=ids, labels=ids, output_router_logits=True, use_cache=False)


def margins(outputs, top_k):
    least = []
    for logits in outputs.router_logits:
        p = torch.softmax(logits.double(), -1).sort(-1, descending=True).values
        full = p.shape[-1] == top_k
        least.append(torch.tensor(1.0) if full else (p[:, top_k - 1] - p[:, top_k]).min().float())
    return torch.stack(least)


def draw_ids(model, a):
    for _ in range(10000):
        ids = torch.randint(a.vocab, (a.batch, a.length))
        with torch.no_grad():
            least = margins(forward(model, ids), a.top_k)
        if least.min() >= a.margin:
            return ids, least
    raise SystemExit(f"no input has router margins of {a.margin}; use fewer tokens or another seed")


def cross_entropy(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def gradients(model, loss):
    """The gradients under their names on disk: saved in the weights' place."""
    model.zero_grad()
    loss.backward()
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.zeros_like(p) if p.grad is None else p.grad)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        named = load_file(os.path.join(folder, "model.safetensors"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(kept[name])
    return named


def main():
    a = parse_arguments()
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)
    model = load_model(a) if a.model else make_random_model(a)
    model.save_pretrained(a.out, max_shard_size=a.shard)
    ids, least = draw_ids(model, a)

    outputs = forward(model, ids)
    loss = cross_entropy(outputs.logits, ids)
    reference = {
        "token_ids": ids.int(),
        "logits": outputs.logits.detach(),
        "loss": loss.detach().reshape(1),
        "margins": least,
    }
    for name, value in gradients(model, loss).items():
        reference["gradient." + name] = value
    if a.layers == 1:  # over several layers transformers' form is another
        balance = forward(model, ids).aux_loss / a.top_k
        reference["balance_loss"] = balance.detach().reshape(1)
        for name, value in gradients(model, balance).items():
            if value.abs().max() > 0:
                reference["balance_gradient." + name] = value
    reference = {name: value.contiguous() for name, value in reference.items()}
    save_file(reference, os.path.join(a.out, "reference.safetensors"))
    print(f"{a.out}: loss {loss.item():.6f}, least router margin {least.min().item():.2e}, "
          f"transformers {transformers.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
