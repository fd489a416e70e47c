#!/bin/bash
# tests/bench/peers/peers.py on the results of a small `smoe bench`: each peer is shown or refused with
# a reason, and JSON and CSV stay readable. Where PyTorch is missing, all are refused.
# usage: tests/scripts/peers.sh path/to/smoe
set -euo pipefail
command -v python3 >/dev/null || { echo "skipped: no python3" && exit 77; }
smoe=$(realpath "$1")
peers=$(realpath "$(dirname "$0")/../bench/peers/peers.py")
folder=$(mktemp -d /tmp/smoe-peers-XXXXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$smoe" bench inference layer parallel_linear --device cpu --scale 256 --seconds 0.01 --output layer >/dev/null 2>&1
"$smoe" bench attention --device cpu --scale 64 --seconds 0.01 --output attention >/dev/null 2>&1
for bench in layer attention; do
  cp $bench/bench.csv $bench/own.csv
  for _ in 1 2; do # a second run replaces what the first added
    timeout 200 python3 "$peers" $bench --seconds 0.01 >table 2>log || { cat log && exit 1; }
  done
  cat table
done
python3 - <<'CHECK'
import csv, json

PEERS = ["scattermoe", "grouped_mm", "megablocks", "sonicmoe"]
COMPUTES = {"parallel_linear": [], "attention": ["scattermoe"]}  # the other sweeps: all


def check(folder):
    sweeps = json.load(open(folder + "/bench.json"))
    rows, own = (list(csv.DictReader(open(f"{folder}/{name}.csv"))) for name in ("bench", "own"))
    assert rows[: len(own)] == own, "rows of smoe bench changed"
    shown = 0
    for sweep in sweeps:
        for row in sweep["rows"]:
            shown += check_row(sweep, row)
    assert len(rows) == len(own) + shown, (len(rows), len(own), shown)
    assert all(row["variant"] in PEERS and float(row["tflops"]) > 0 for row in rows[len(own) :])
    print(folder, shown, "rows of peers")


def check_row(sweep, row):
    """The number of peers that the row shows."""
    shown = 0
    reasons = [text.split(": ", 1) for text in row["refused"]]
    for peer in PEERS:
        is_shown = peer in row["variants"]
        refused = [reason for name, reason in reasons if name == peer]
        if peer not in COMPUTES.get(sweep["sweep"], PEERS):
            assert not is_shown and not refused, (sweep["sweep"], peer)
            continue
        shown += is_shown
        assert is_shown != bool(refused) and len(refused) <= 1, (sweep["sweep"], peer, refused)
        assert all(refused), peer
        if is_shown:
            assert row["variants"][peer]["forward_ms"] > 0
            assert (row["variants"][peer]["backward_ms"] > 0) == sweep["trains"]
    return shown


check("layer")
check("attention")
CHECK
