"""What tests/bench/scaling computes without running anything: the cost model of docs/scaling.md, what
training measured, bounds, and the table. Times in ms, sizes in bytes."""
import json
import statistics
from dataclasses import dataclass

LINK_BYTES_PER_MS = 370e6  # NVLink 4, one direction
BACKWARD_SHARE = 120 / 182  # of a micro-batch's time
HIDDEN_SHARE = 0.9  # of backward, beside which gradients travel
SMS = 132
GIB = 2**30

# Least efficiency in percent at 8 GPUs, by (micro-batches per step, parallel.zero).
ACCEPTED = {(8, 0): 98, (1, 0): 95, (8, 1): 99, (1, 1): 98}
MEMORY_BOUND = 0.02  # relative, of the plan
TIME_BOUND = 0.05  # relative, of the model
LOSS_BOUND = {"bf16": 1e-3, "fp32": 1e-6}  # relative, between numbers of ranks


@dataclass(frozen=True)
class Case:
    """One job: so many ranks, micro-batches of each rank per step, and parallel.zero."""

    ranks: int
    micro_batches: int
    zero: int


@dataclass
class Measured:
    """The speed is of rank 0, the rest of the worst rank, or of rank 0 if it was not profiled."""

    step_ms: float
    tokens_per_s: float  # of all ranks
    peak_bytes: int
    hidden: float | None = None  # share of communication beside which ranks compute


@dataclass
class Costs:
    """Of one GPU, from steps of one and of several micro-batches."""

    micro_batch_ms: float
    update_ms: float


def cases(rank_counts, micro_batches):
    """One rank has no use for ZeRO."""
    return [Case(n, a, z) for n in rank_counts for a in micro_batches for z in ((0, 1) if n > 1 else (0,))]


def records(lines, kind):
    """The lines of metrics.jsonl of a kind; the last one may still be incomplete."""
    result = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("kind") == kind:
            result.append(record)
    return result


def measure(steps, warm_up):
    """Medians over the steps after the first `warm_up` ones."""
    timed = [s for s in steps if s["step"] > warm_up]
    if not timed:
        raise ValueError(f"measure: there must be steps after {warm_up}; got {len(steps)} steps")
    tokens = timed[0]["tokens"] / timed[0]["step"]
    rate = statistics.median(s["tokens_per_s"] for s in timed)
    step_ms = 1e3 * tokens / rate
    return Measured(step_ms, rate, max(s["peak_bytes"] for s in timed))


def fit_costs(measured):
    """Of one GPU's steps with A and B micro-batches; with one of them alone the update is unknown."""
    alone = sorted((case.micro_batches, m.step_ms) for case, m in measured.items() if case.ranks == 1)
    if len(alone) < 2:
        return None
    (few, few_ms), (many, many_ms) = alone[0], alone[-1]
    micro_batch_ms = (many_ms - few_ms) / (many - few)
    return Costs(micro_batch_ms, few_ms - few * micro_batch_ms)


def model(case, costs, plan, ctas, last_bytes):
    """(ms of a step, share of communication that is hidden). `plan`: the case's entry of `smoe plan
    --ranks --json`. `last_bytes`: the gradients that are sent after backward."""
    update_ms = costs.update_ms / (case.ranks if case.zero else 1)
    step_ms = case.micro_batches * costs.micro_batch_ms + update_ms
    if case.ranks == 1:
        return step_ms, None
    reduce_ms = plan["reduce_ms"]
    beside_ms = HIDDEN_SHARE * BACKWARD_SHARE * costs.micro_batch_ms
    exposed_ms = max(0, reduce_ms - beside_ms) + last_bytes / LINK_BYTES_PER_MS
    contention_ms = ctas / SMS * reduce_ms
    sent_ms = reduce_ms + plan["gather_ms"]
    return step_ms + exposed_ms + contention_ms, max(0, 1 - exposed_ms / sent_ms)


def efficiency(case, measured):
    """Tokens per second and rank, in percent of those of one rank with as many micro-batches."""
    alone = measured.get(Case(1, case.micro_batches, 0))
    if alone is None:
        return None
    return 100 * measured[case].tokens_per_s / case.ranks / alone.tokens_per_s


def relative(value, reference):
    return abs(value - reference) / abs(reference)


def loss_difference(losses, reference):
    """The greatest relative difference at a step that both have."""
    common = sorted(losses.keys() & reference.keys())
    if not common:
        raise ValueError("loss_difference: runs must have a step in common")
    return max(relative(losses[step], reference[step]) for step in common)


def shown(value, text, missing="-"):
    return missing if value is None else text.format(value)


def table(measured, plans, modelled, is_small):
    """Markdown. `modelled`: case -> (step ms, hidden share), empty for a small run, whose ranks share
    the cores of one machine: its speeds say nothing about GPUs and are left out."""
    rows = ["| ranks | micro-batches | zero | tokens/s per GPU | efficiency | step, ms: measured / model "
            "| peak of a rank, MiB: measured / plan | communication hidden: measured / model |",
            "|---|---|---|---|---|---|---|---|"]
    for case, m in measured.items():
        step_ms, hidden = modelled.get(case, (None, None))
        speed = [shown(None, "")] * 3 if is_small else [
            f"{m.tokens_per_s / case.ranks:,.0f}",
            shown(efficiency(case, measured), "{:.1f} %"),
            f"{m.step_ms:.1f} / {shown(step_ms, '{:.1f}')}"]
        peak = f"{m.peak_bytes / 2**20:,.1f} / {plans[case]['peak_bytes'] / 2**20:,.1f}"
        share = f"{shown(m.hidden, '{:.0%}')} / {shown(hidden, '{:.0%}')}"
        cells = [str(case.ranks), str(case.micro_batches), str(case.zero), *speed, peak, share]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def misses(measured, plans, modelled):
    """A sentence per figure that misses its bound."""
    result = []
    for case, m in measured.items():
        name = f"{case.ranks} ranks, {case.micro_batches} micro-batches, zero {case.zero}"
        planned = plans[case]["peak_bytes"]
        if relative(m.peak_bytes, planned) > MEMORY_BOUND:
            result.append(f"{name}: peak must be within 2 % of the plan's {planned:,} bytes; got {m.peak_bytes:,}")
        if case in modelled and relative(m.step_ms, modelled[case][0]) > TIME_BOUND:
            result.append(f"{name}: a step must be within 5 % of the model's {modelled[case][0]:.1f} ms; "
                          f"got {m.step_ms:.1f}")
        least = ACCEPTED.get((case.micro_batches, case.zero)) if case.ranks == 8 and modelled else None
        got = efficiency(case, measured)
        if least is not None and got is not None and got < least:
            result.append(f"{name}: efficiency must be at least {least} %; got {got:.1f} %")
    return result
