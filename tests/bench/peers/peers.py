#!/usr/bin/env python3
"""Adds other implementations of an SMoE layer or a mixture of attention to the results of `smoe bench`.

    smoe bench layer granularity attention --output bench
    python3 tests/bench/peers/peers.py bench

reads bench/bench.json, runs each peer that is installed at the same shapes, and writes its rows into
bench/bench.json and bench/bench.csv. A peer that is missing, fails, or computes something else than the
reference is not shown; the reason stands in the row's `refused`. Peers:

    scattermoe  https://github.com/shawntan/scattermoe        Triton kernels; mixture of attention: compiled by
                                                              torch.compile, attention by PyTorch
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

import attention_peers
import layer_peers
from peer import Refused

ALLOWED_ERROR = 0.03  # of the largest value, as in smoe bench
KINDS = (layer_peers, attention_peers)
PEERS = layer_peers.PEERS  # a superset of the other kinds'
MIN_RUNS, MAX_RUNS = 3, 100
# ---- measuring --------------------------------------------------------------------------------------


def import_torch():
    try:
        import torch
    except ImportError as error:
        raise Refused(f"PyTorch is not installed ({error})") from None
    return torch


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


def kind_of(sweep):
    """The module whose peers compute what a sweep measures; None if there is none."""
    return next((kind for kind in KINDS if sweep["sweep"] in kind.SWEEPS), None)


def measure(kind, name, shape, trains, seconds, device_name):
    torch = import_torch()
    device = torch.device(device_name)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[shape["dtype"]]
    inputs = kind.Inputs(torch, shape, device, dtype)
    try:
        layer, weights, set_weights = kind.PEERS[name](torch, shape, device, dtype)
    except ImportError as error:
        raise Refused(f"it is not installed ({error})") from None
    with torch.no_grad():
        set_weights(*inputs.weights)
        expected = inputs.reference()
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


def peers_of(sweep, peers):
    """Those that compute what the sweep measures."""
    kind = kind_of(sweep)
    return [peer for peer in peers if kind and peer in kind.PEERS]


def add_peers(sweeps, peers, seconds, device, say):
    for sweep in sweeps:
        for row in sweep["rows"]:
            row["refused"] = [text for text in row["refused"] if text.split(":")[0] not in peers]
            for peer in peers_of(sweep, peers):
                say(f"{sweep['sweep']}: {sweep['x_name']} = {row['x']:g}: {peer}")
                row["variants"].pop(peer, None)
                try:
                    row["variants"][peer] = measure(
                        kind_of(sweep), peer, row, sweep["trains"], seconds, device)
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
    flops = kind_of(sweep).forward_flops(row) * (3 if sweep["trains"] else 1)
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
    for sweep in filter(kind_of, sweeps):
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
