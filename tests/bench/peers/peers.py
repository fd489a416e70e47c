#!/usr/bin/env python3
"""Adds other implementations of an SMoE layer to the results of `smoe bench`.

    smoe bench layer granularity --output bench
    python3 tests/bench/peers/peers.py bench

reads bench/bench.json, runs each peer that is installed at the same shapes, and writes its rows into
bench/bench.json and bench/bench.csv. A peer that is missing, fails, or computes something else than the
reference is not shown; the reason stands in the row's `refused`. Peers:

    scattermoe  https://github.com/shawntan/scattermoe        Triton kernels
    grouped_mm  torch's grouped GEMM between gathered copies  part of PyTorch
    megablocks  https://github.com/databricks/megablocks      block-sparse or grouped GEMMs on padded copies
    sonicmoe    https://github.com/Dao-AILab/sonic-moe        CuTe DSL kernels, tuned at first use

Weights and activations have the row's dtype, weight gradients too (smoe's are f32). Times are medians;
forward keeps what backward needs, unless the sweep is one of forward alone. Memory is above the inputs,
without weight gradients, and is known on a GPU only.
"""

import argparse
import csv
import io
import json
import os
import statistics
import sys
import time

ALLOWED_ERROR = 0.03  # of the largest value, as in smoe bench
CHECKED_TOKENS = 64
LAYER_SWEEPS = ("layer", "granularity", "sparsity", "batch", "imbalance", "inference")
MIN_RUNS, MAX_RUNS = 3, 100


class Refused(Exception):
    """Why a peer is not shown."""


# ---- peers: build(shape, device, dtype) returns (function of x, gates, ids; weights) ----------------
# Weights as smoe has them: w1 [E, 2F, D], of which the first F rows are under SiLU, and w2 [E, D, F].


def build_scattermoe(torch, shape, device, dtype):
    if device.type != "cuda":
        raise Refused("its Triton kernels need a GPU")
    from scattermoe.mlp import GLUMLP

    layer = GLUMLP(shape["d_model"], shape["d_expert"], shape["experts"], shape["top_k"]).to(device, dtype)
    up, down = layer.experts.weight, layer.output_experts.weight

    def set_weights(w1, w2):
        linear, gated = w1.chunk(2, dim=1)[::-1]  # SiLU is on its second half
        up.copy_(torch.cat([linear, gated], dim=1))
        down.copy_(w2)

    return layer, [up, down], set_weights


def build_grouped_mm(torch, shape, device, dtype):
    functional = torch.nn.functional
    grouped_mm = getattr(functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if grouped_mm is None:
        raise Refused(f"PyTorch {torch.__version__} has no grouped_mm")
    experts, top_k, width = shape["experts"], shape["top_k"], shape["d_expert"]
    w1 = torch.empty(experts, 2 * width, shape["d_model"], device=device, dtype=dtype, requires_grad=True)
    w2 = torch.empty(experts, shape["d_model"], width, device=device, dtype=dtype, requires_grad=True)

    def layer(x, gates, ids):
        flat = ids.flatten()
        order = flat.argsort(stable=True)
        ends = torch.bincount(flat, minlength=experts).cumsum(0).to(torch.int32)
        tokens = order // top_k
        hidden = grouped_mm(x[tokens], w1.transpose(1, 2), offs=ends)
        gated, linear = hidden.chunk(2, dim=1)
        rows = grouped_mm(functional.silu(gated) * linear, w2.transpose(1, 2), offs=ends)
        rows = rows * gates.flatten()[order].to(rows.dtype)[:, None]
        return torch.zeros_like(x).index_add_(0, tokens, rows)

    def set_weights(new_w1, new_w2):
        w1.copy_(new_w1)
        w2.copy_(new_w2)

    return layer, [w1, w2], set_weights


def build_megablocks(torch, shape, device, dtype):
    if device.type != "cuda":
        raise Refused("its kernels need a GPU")
    from megablocks.layers.arguments import Arguments
    from megablocks.layers.dmoe import ParallelDroplessMLP

    arguments = Arguments(
        hidden_size=shape["d_model"],
        ffn_hidden_size=shape["d_expert"],
        moe_num_experts=shape["experts"],
        moe_top_k=shape["top_k"],
        mlp_type="glu",
        activation_fn=torch.nn.functional.silu,
        bias=False,
        fp16=False,
        bf16=dtype == torch.bfloat16,
        device=device,
    )
    mlp = ParallelDroplessMLP(arguments).to(device, dtype)

    def layer(x, gates, ids):
        scores = torch.zeros(x.shape[0], shape["experts"], device=device, dtype=dtype)
        out = mlp(x[:, None], scores, gates.to(dtype), ids)
        return (out[0] if isinstance(out, tuple) else out)[:, 0]

    def set_weights(w1, w2):
        gated, linear = w1.chunk(2, dim=1)
        mlp.mlp.w1.copy_(gated.reshape_as(mlp.mlp.w1))
        mlp.mlp.v1.copy_(linear.reshape_as(mlp.mlp.v1))
        mlp.mlp.w2.copy_(w2.transpose(1, 2).reshape_as(mlp.mlp.w2))

    return layer, [mlp.mlp.w1, mlp.mlp.v1, mlp.mlp.w2], set_weights


def build_sonicmoe(torch, shape, device, dtype):
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 9:
        raise Refused("its kernels need a GPU of compute capability 9.0 or more")
    from sonicmoe.enums import ActivationType
    from sonicmoe.functional import _DownProjection, _UpProjection, TC_topk_router_metadata_triton

    experts, top_k, width = shape["experts"], shape["top_k"], shape["d_expert"]
    w1 = torch.empty(experts, 2 * width, shape["d_model"], device=device, dtype=dtype, requires_grad=True)
    w2 = torch.empty(experts, shape["d_model"], width, device=device, dtype=dtype, requires_grad=True)

    def layer(x, gates, ids):
        tokens = x.shape[0]
        rows = tokens * top_k

        def indices(count):
            return torch.empty(count, dtype=torch.int32, device=device)

        scatter, reverse, gather = indices(rows), indices(rows), indices(rows)
        counts, offsets = indices(experts), indices(experts + 1)
        TC_topk_router_metadata_triton(ids.int(), experts, counts, offsets, gather, scatter, reverse)
        act, is_inference = ActivationType.SWIGLU, not torch.is_grad_enabled()
        hidden, kept = _UpProjection.apply(
            x, w1.permute(1, 2, 0), None, offsets, rows, top_k, gather, scatter, reverse, None, False, act,
            is_inference, False)
        return _DownProjection.apply(
            hidden, kept, w2.permute(1, 2, 0), None, gates.float(), offsets, tokens, top_k, gather, scatter,
            reverse, None, False, act)

    def set_weights(new_w1, new_w2):
        # Its GLU and linear rows alternate.
        gated, linear = new_w1.chunk(2, dim=1)
        w1.copy_(torch.stack([gated, linear], dim=2).reshape_as(w1))
        w2.copy_(new_w2)

    return layer, [w1, w2], set_weights


PEERS = {
    "scattermoe": build_scattermoe,
    "grouped_mm": build_grouped_mm,
    "megablocks": build_megablocks,
    "sonicmoe": build_sonicmoe,
}


# ---- measuring --------------------------------------------------------------------------------------


def import_torch():
    try:
        import torch
    except ImportError as error:
        raise Refused(f"PyTorch is not installed ({error})") from None
    return torch


class Inputs:
    """What every peer computes with, at one shape."""

    def __init__(self, torch, shape, device, dtype):
        generator = torch.Generator(device="cpu").manual_seed(1)

        def normal(*size):
            return torch.randn(*size, generator=generator).to(device, dtype)

        tokens, width, experts = shape["tokens"], shape["d_expert"], shape["experts"]
        self.x = normal(tokens, shape["d_model"]).requires_grad_()
        self.dout = normal(tokens, shape["d_model"])
        self.w1 = normal(experts, 2 * width, shape["d_model"]) * shape["d_model"] ** -0.5
        self.w2 = normal(experts, shape["d_model"], width) * width**-0.5
        self.ids = chosen_experts(torch, shape, generator).to(device)
        gates = torch.rand(tokens, shape["top_k"], generator=generator)
        self.gates = (gates / gates.sum(1, keepdim=True)).to(device, dtype).requires_grad_()

    def reference(self, torch):
        """The layer's output for the first tokens, in f64."""
        count = min(CHECKED_TOKENS, self.x.shape[0])
        with torch.no_grad():
            x, gates = self.x[:count].double(), self.gates[:count].double()
            out = torch.zeros_like(x)
            for slot in range(self.ids.shape[1]):
                for t in range(count):
                    e = self.ids[t, slot]
                    gated, linear = (self.w1[e].double() @ x[t]).chunk(2)
                    hidden = torch.nn.functional.silu(gated) * linear
                    out[t] += gates[t, slot] * (self.w2[e].double() @ hidden)
        return out


def chosen_experts(torch, shape, generator):
    """Experts [T, K]: equal loads, or the first expert with `imbalance` times the mean."""
    tokens, experts, top_k = shape["tokens"], shape["experts"], shape["top_k"]
    if shape["imbalance"] <= 1:
        order = torch.randperm(tokens, generator=generator)
        return (order[:, None] * top_k + torch.arange(top_k)) % experts
    scores = torch.rand(tokens, experts, generator=generator)
    scores[:, 0] = -1.0
    scores[: round(shape["imbalance"] * tokens * top_k / experts), 0] = 2.0
    return scores.topk(top_k).indices


class Clock:
    """Times work on a device, in milliseconds."""

    def __init__(self, torch, device):
        self.torch, self.on_gpu = torch, device.type == "cuda"

    def time(self, work):
        if not self.on_gpu:
            begin = time.perf_counter()
            result = work()
            return result, 1e3 * (time.perf_counter() - begin)
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = work()
        end.record()
        end.synchronize()
        return result, begin.elapsed_time(end)


def memory_of(torch, device, forward, inputs, weights):
    """Kept and peak bytes; None where the device does not count them."""
    if device.type != "cuda":
        return None, None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    out = forward()
    kept = torch.cuda.memory_allocated(device) - before
    out.backward(inputs.dout)
    torch.cuda.synchronize(device)
    gradients = sum(weight.numel() * weight.element_size() for weight in weights)
    return kept, torch.cuda.max_memory_allocated(device) - before - gradients


def measure(name, shape, trains, seconds, device_name):
    torch = import_torch()
    device = torch.device(device_name)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[shape["dtype"]]
    inputs = Inputs(torch, shape, device, dtype)
    try:
        layer, weights, set_weights = PEERS[name](torch, shape, device, dtype)
    except ImportError as error:
        raise Refused(f"it is not installed ({error})") from None
    with torch.no_grad():
        set_weights(inputs.w1, inputs.w2)
        expected = inputs.reference(torch)
        got = layer(inputs.x, inputs.gates, inputs.ids)[: len(expected)].double()
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    if not error <= ALLOWED_ERROR:
        raise Refused(f"its results differ by {error:.1e} of the largest value")

    def forward():
        if trains:
            return layer(inputs.x, inputs.gates, inputs.ids)
        with torch.no_grad():
            return layer(inputs.x, inputs.gates, inputs.ids)

    def clear():
        for tensor in [inputs.x, inputs.gates, *weights]:
            tensor.grad = None

    clock, times = Clock(torch, device), []
    spent = 0.0
    while len(times) <= MIN_RUNS or (spent < 1e3 * seconds and len(times) < MAX_RUNS):
        out, forward_ms = clock.time(forward)
        backward_ms = clock.time(lambda: out.backward(inputs.dout))[1] if trains else 0.0
        clear()
        times.append((forward_ms, backward_ms))
        spent += forward_ms + backward_ms
    times = times[1:]  # the first compiles and warms up
    kept, peak = memory_of(torch, device, forward, inputs, weights) if trains else (None, None)
    return {
        "forward_ms": statistics.median(t[0] for t in times),
        "backward_ms": statistics.median(t[1] for t in times),
        "kept_bytes": kept,
        "peak_bytes": peak,
        "error": error,
    }


# ---- the results of smoe bench ----------------------------------------------------------------------


def layer_sweeps(sweeps):
    """Those of a whole layer of experts, which is what the peers compute."""
    return [sweep for sweep in sweeps if sweep["sweep"] in LAYER_SWEEPS]


def add_peers(sweeps, peers, seconds, device, say):
    for sweep in layer_sweeps(sweeps):
        for row in sweep["rows"]:
            row["refused"] = [text for text in row["refused"] if text.split(":")[0] not in peers]
            for peer in peers:
                say(f"{sweep['sweep']}: {sweep['x_name']} = {row['x']:g}: {peer}")
                row["variants"].pop(peer, None)
                try:
                    row["variants"][peer] = measure(peer, row, sweep["trains"], seconds, device)
                except Refused as reason:
                    row["refused"].append(f"{peer}: {reason}")
                except Exception as error:  # whatever a peer throws is the reason
                    text = str(error).strip().splitlines()[:1] or [""]
                    row["refused"].append(f"{peer}: {type(error).__name__}: {text[0][:200]}")


def csv_of(sweeps, old_csv):
    """The rows of `old_csv` that are not of peers, and those of the peers."""
    old = list(csv.DictReader(io.StringIO(old_csv)))
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(old[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in old if row["variant"] not in PEERS)
    for sweep in sweeps:
        for row in sweep["rows"]:
            for peer in PEERS:
                if peer in row["variants"]:
                    writer.writerow(csv_row(sweep, row, peer, list(old[0])))
    return out.getvalue()


def csv_row(sweep, row, peer, columns):
    m = row["variants"][peer]
    flops = 6.0 * row["tokens"] * row["top_k"] * row["d_model"] * row["d_expert"] * (3 if sweep["trains"] else 1)
    values = {
        "sweep": sweep["sweep"],
        "x_name": sweep["x_name"],
        "variant": peer,
        "tflops": flops / time_of(m) / 1e9,
        **{name: row.get(name, "") for name in ("x", "tokens", "d_model", "d_expert", "experts", "top_k", "dtype")},
        **m,
    }
    return {column: "" if values.get(column) is None else values[column] for column in columns}


def time_of(m):
    return m["forward_ms"] + m["backward_ms"]


def print_table(sweeps, peers):
    for sweep in layer_sweeps(sweeps):
        for row in sweep["rows"]:
            print(f"{sweep['sweep']}: {sweep['x_name']} = {row['x']:g}")
            own = row["variants"].get("smoe")
            for name in ["smoe", *peers]:
                m = row["variants"].get(name)
                if m is None:
                    continue
                text = f"  {name:<12}{m['forward_ms']:>10.3f} ms{m['backward_ms']:>10.3f} ms"
                print(f"{text}{time_of(m) / time_of(own):>8.2f} x smoe's time" if own else text)
            for reason in row["refused"]:
                print(f"  not shown: {reason}")


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the --output of smoe bench")
    parser.add_argument("--peers", default=",".join(PEERS), help="which ones; default: all")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each peer and row")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: that of smoe's rows")
    arguments = parser.parse_args()
    peers = arguments.peers.split(",")
    for peer in peers:
        if peer not in PEERS:
            parser.error(f"--peers: must be of {', '.join(PEERS)}; got {peer}")
    json_path, csv_path = (os.path.join(arguments.folder, "bench." + kind) for kind in ("json", "csv"))
    with open(json_path, encoding="utf-8") as file:
        sweeps = json.load(file)
    with open(csv_path, encoding="utf-8") as file:
        old_csv = file.read()
    device = arguments.device or ("cpu" if sweeps[0]["device"].startswith("CPU") else "cuda")
    add_peers(sweeps, peers, arguments.seconds, device, lambda text: print(text, file=sys.stderr))
    write(json_path, json.dumps(sweeps, indent=1) + "\n")
    write(csv_path, csv_of(sweeps, old_csv))
    print_table(sweeps, peers)


if __name__ == "__main__":
    main()
