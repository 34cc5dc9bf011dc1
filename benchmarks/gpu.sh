#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures FiLax and its peers on one GPU, in at most nine minutes, into one JSON file.
#
#   benchmarks/gpu.sh                              # All groups, to $OUT/gpu.json or ./gpu.json.
#   benchmarks/gpu.sh --only answer,llm --seconds 200
#   benchmarks/gpu.sh --size tiny --platform cpu   # Tiny sizes on a CPU: a test of the script.
#
# Needs jax with CUDA, flax, optax, etils, chex and jaxtyping; for the peers torch and transformers.
# Weights are random and made on the device, so nothing is read or downloaded. The file is written
# after every figure: a run that is cut off loses only the figure in progress.
set -eu
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.gpu --out "${OUT:-.}/gpu.json" "$@"
