#!/bin/bash
# Compares smoe on a GPU with Hugging Face transformers on PyTorch: logits, losses and gradients in
# float32 and bfloat16, and 50 training steps. Prints a short table; docs/parity.md explains it.
#
#   tests/scripts/gpu_oracle.sh [BIN_FOLDER]   default build/release/bin, for its train_tests
#
# PYTHON is the interpreter (default python3), with torch, transformers 5, safetensors, numpy and
# pyyaml. SMOE_ORACLE_DEVICE=cpu runs without a GPU. Exit code 77 without a GPU or transformers, 1 if a
# difference exceeds its bound.
set -euo pipefail
cd "$(dirname "$0")/../.."

device=${SMOE_ORACLE_DEVICE:-cuda}
python=${PYTHON:-python3}
if [ "$device" = cuda ] && ! nvidia-smi -L > /dev/null 2>&1; then
  echo "skipped: no GPU"
  exit 77
fi
if ! "$python" -c "
import numpy, safetensors, torch, transformers, yaml
assert int(transformers.__version__.split('.')[0]) >= 5" > /dev/null 2>&1; then
  echo "skipped: no transformers ($python must have torch, transformers 5, safetensors, numpy, pyyaml)"
  exit 77
fi
exec "$python" tests/oracle/compare.py "${1:-build/release/bin}" --device "$device"
