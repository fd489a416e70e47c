#!/usr/bin/env python3
"""Writes the references of the parity tests in tests/train/huggingface/: a small random Mixtral or
JetMoE model of Hugging Face transformers, and PyTorch's results for it.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    venv/bin/python tests/oracle/make_model.py OUT --seed 1 --layers 2 --experts 4 --top-k 2 ...
    SMOE_ORACLE=OUT build/release/bin/train_tests --source-file='*oracle_test.cpp'

Writes to the folder OUT:
    config.json, model*.safetensors   the model, as written by save_pretrained
    reference.safetensors             the tensors below, in float32 and int32

In float32:
    token_ids         [B, S]
    logits            [B, S, V]
    loss              [1], the mean cross-entropy of predicting each next token
    gradient.NAME     of that loss, for each tensor NAME of the model's files
    margins           [routers], the minimum difference between the probabilities of the last
                      selected and the first unselected expert. Sequences are resampled until all
                      are at least --margin, so that rounding cannot change the routing
    balance_loss      [1], the mean over routers of transformers' load balancing loss over top_k
    balance_gradient.NAME   of that loss, if not zero

With --precision bf16, all weights and activations in bfloat16:
    token_ids         [B, S], unfiltered
    expert_ids        [routers, B * S, K], the routing of transformers: of each layer that of
                      JetMoE's attention, then that of the MLP
    logits, loss, gradient.NAME     of loss + balance_scale * balance loss
    exact.logits, exact.loss, exact.gradient.NAME    the same in float32, for the same weights and
                      the same routing

Tensor names are those of the files: the in-memory layout changes between versions of transformers.
bfloat16 needs version 5."""

import argparse
import functools
import os
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

BALANCE_SCALE = 0.1


def parse_arguments(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("out")
    p.add_argument("--model", help="folder of a model to use instead of a random one")
    p.add_argument("--family", choices=["mixtral", "jetmoe"], default="mixtral")
    p.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    p.add_argument("--device", default="cpu", help="device of PyTorch")
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
    p.add_argument("--tied", action="store_true", help="tie the output head to the embedding")
    p.add_argument("--rope-theta", type=float, default=10000.0)
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--length", type=int, default=19, help="tokens per sequence")
    p.add_argument("--margin", type=float, default=1e-3)
    p.add_argument("--shard", default="5GB", help="maximum file size, as for save_pretrained")
    return p.parse_args(arguments)


def is_mixtral(config):
    return config.model_type == "mixtral"


def load_model(folder, device, dtype=torch.float32):
    # Attention scores in full precision: eager attention for float32, fused for bfloat16.
    config = transformers.AutoConfig.from_pretrained(folder)
    eager = {"experts_implementation": "eager"} if is_mixtral(config) else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager" if dtype == torch.float32 else "sdpa",
        **(eager if transformers.__version__ >= "5" else {}))
    return model.to(device).eval()


def random_config(a):
    common = dict(
        vocab_size=a.vocab,
        hidden_size=a.width,
        intermediate_size=a.expert_width,
        num_hidden_layers=a.layers,
        num_key_value_heads=a.kv_heads,
        num_local_experts=a.experts,
        num_experts_per_tok=a.top_k,
        tie_word_embeddings=a.tied,
        max_position_embeddings=max(64, a.length),
        rope_theta=a.rope_theta,
    )
    if a.family == "jetmoe":
        # The norms of JetMoE's layers have this epsilon whatever the configuration says.
        return transformers.JetMoeConfig(kv_channels=a.head_dim, rms_norm_eps=1e-6, **common)
    return transformers.MixtralConfig(num_attention_heads=a.heads, head_dim=a.head_dim,
                                      rms_norm_eps=1e-5, **common)


def make_random_model(a):
    model = transformers.AutoModelForCausalLM.from_config(random_config(a))
    # Weights large enough that every part of the model affects the logits.
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(("norm" in name) + 0.2 * torch.randn(p.shape))
            elif "embed_tokens" in name and not a.tied:
                p.normal_()
            else:
                p.normal_(std=p.shape[-1] ** -0.5)
    return model


def routers_of(model):
    """In the order in which a forward pass calls them."""
    for layer in model.model.layers:
        if is_mixtral(model.config):
            yield layer.mlp.gate
        else:
            yield layer.self_attention.experts.router
            yield layer.mlp.router


class Routers:
    """A context that records the logits and decisions of a model's routers, and forces
    `expert_ids`, [routers, B * S, K], if given."""

    def __init__(self, model, expert_ids=None):
        self.model = model
        self.given = expert_ids
        self.visit = self.visit_mixtral if is_mixtral(model.config) else self.visit_jetmoe

    def __enter__(self):
        self.logits, self.expert_ids = [], []
        self.hooks = [router.register_forward_hook(functools.partial(self.visit, i))
                      for i, router in enumerate(routers_of(self.model))]
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def record(self, logits, expert_ids):
        self.logits.append(logits)
        self.expert_ids.append(expert_ids)

    def visit_mixtral(self, index, _router, _inputs, output):
        logits, gates, expert_ids = output
        if self.given is not None:
            expert_ids = self.given[index]
            chosen = torch.softmax(logits.float(), -1).gather(-1, expert_ids)
            gates = (chosen / chosen.sum(-1, keepdim=True)).to(gates.dtype)
        self.record(logits, expert_ids)
        return logits, gates, expert_ids

    def visit_jetmoe(self, index, router, _inputs, output):
        order, tokens, gates, sizes, logits = output
        expert_ids = logits.topk(router.top_k, dim=1).indices
        if self.given is not None:
            expert_ids = self.given[index]
            of_slots = torch.softmax(logits.gather(-1, expert_ids), -1).to(gates.dtype)
            order = expert_ids.flatten().sort(dim=0, stable=True).indices
            tokens = order.div(router.top_k, rounding_mode="trunc")
            gates = of_slots.flatten()[order]
            sizes = torch.bincount(expert_ids.flatten(), minlength=logits.shape[-1]).tolist()
        self.record(logits, expert_ids)
        return order, tokens, gates, sizes, logits

    def balance_loss(self):
        """The mean over routers of the balance loss of the recorded routing."""
        losses = []
        for logits, expert_ids in zip(self.logits, self.expert_ids):
            p = torch.softmax(logits.float(), -1)
            share = torch.bincount(expert_ids.flatten(), minlength=p.shape[-1]) / expert_ids.numel()
            losses.append(p.shape[-1] * (share * p.mean(0)).sum())
        return torch.stack(losses).mean()


def margins(router_logits, top_k, batch):
    """[routers, batch]: the minimum per sequence."""
    least = []
    for logits in router_logits:
        p = torch.softmax(logits.double(), -1).sort(-1, descending=True).values
        full = p.shape[-1] == top_k
        m = torch.ones_like(p[:, 0]) if full else p[:, top_k - 1] - p[:, top_k]
        least.append(m.reshape(batch, -1).min(-1).values)
    return torch.stack(least)


def draw_ids(model, a):
    """Random sequences in which no routing decision has a small margin."""
    found, least = [], []
    for _ in range(1000):
        ids = torch.randint(model.config.vocab_size, (32, a.length)).to(a.device)
        with torch.no_grad(), Routers(model) as routers:
            model(input_ids=ids, use_cache=False)
        m = margins(routers.logits, model.config.num_experts_per_tok, len(ids))
        wide = m.min(0).values >= a.margin
        found += ids[wide]
        least += m.T[wide]
        if len(found) >= a.batch:
            return torch.stack(found[:a.batch]), torch.stack(least[:a.batch]).min(0).values
    raise SystemExit(f"no input has router margins of {a.margin}; use shorter sequences")


def cross_entropy(logits, ids):
    logits = logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())


def balance_loss(router_logits, config):
    """The mean over routers: transformers' function computes one loss over those of all layers."""
    num_experts, top_k = config.num_local_experts, config.num_experts_per_tok
    losses = [load_balancing_loss_func((logits,), num_experts, top_k) / top_k
              for logits in router_logits]
    return torch.stack(losses).mean()


def gradients(model, loss):
    """The gradients under the names of the files: saved in place of the weights."""
    model.zero_grad()
    loss.backward()
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.zeros_like(p) if p.grad is None else p.grad)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size="1TB")
        named = load_file(os.path.join(folder, "model.safetensors"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(kept[name])
    return named


def reference_f32(a):
    model = load_model(a.out, a.device)
    ids, least = draw_ids(model, a)
    logits = model(input_ids=ids, use_cache=False).logits
    loss = cross_entropy(logits, ids)
    reference = {"token_ids": ids, "logits": logits, "loss": loss, "margins": least}
    for name, value in gradients(model, loss).items():
        reference["gradient." + name] = value
    with Routers(model) as routers:
        model(input_ids=ids, use_cache=False)
    balance = balance_loss(routers.logits, model.config)
    reference["balance_loss"] = balance
    for name, value in gradients(model, balance).items():
        if value.abs().max() > 0:
            reference["balance_gradient." + name] = value
    return reference


def training_step(model, ids, expert_ids=None):
    with Routers(model, expert_ids) as routers:
        logits = model(input_ids=ids, use_cache=False).logits
    loss = cross_entropy(logits, ids)
    named = gradients(model, loss + BALANCE_SCALE * routers.balance_loss())
    step = {"logits": logits, "loss": loss}
    step.update(("gradient." + name, value) for name, value in named.items())
    return step, torch.stack(routers.expert_ids)


def reference_bf16(a):
    model = load_model(a.out, a.device, torch.bfloat16)
    ids = torch.randint(model.config.vocab_size, (a.batch, a.length)).to(a.device)
    reference, expert_ids = training_step(model, ids)
    exact, _ = training_step(load_model(a.out, a.device), ids, expert_ids)
    reference.update(("exact." + name, value) for name, value in exact.items())
    reference.update(token_ids=ids, expert_ids=expert_ids,
                     balance_scale=torch.tensor(BALANCE_SCALE))
    return reference


def on_disk(x):
    x = x.detach().cpu()
    x = x.float() if x.is_floating_point() else x.int()
    return x.reshape(1) if x.dim() == 0 else x.contiguous()


def make(arguments=None):
    a = parse_arguments(arguments)
    torch.manual_seed(a.seed)
    dtype = torch.bfloat16 if a.precision == "bf16" else torch.float32
    model = load_model(a.model, "cpu") if a.model else make_random_model(a)
    model.to(dtype).save_pretrained(a.out, max_shard_size=a.shard)
    reference = reference_bf16(a) if a.precision == "bf16" else reference_f32(a)
    reference = {name: on_disk(value) for name, value in reference.items()}
    save_file(reference, os.path.join(a.out, "reference.safetensors"))
    return reference


def main():
    torch.set_num_threads(1)
    reference = make()
    print(f"loss {reference['loss'].item():.6f}, "
          f"transformers {transformers.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
