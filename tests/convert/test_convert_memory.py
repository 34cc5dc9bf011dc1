# SPDX-License-Identifier: Apache-2.0
"""The benchmark of conversions runs, on a tiny model."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_figures_of_a_tiny_model(tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "benchmarks.convert_memory",
      "--size",
      "tiny",
      "--folder",
      tmp_path,
      "--json",
      tmp_path / "figures.json",
    ],
    capture_output=True,
    text=True,
    check=True,
  )
  assert "| from PyTorch |" in done.stdout and "The limit is kept" in done.stdout
  found = json.loads((tmp_path / "figures.json").read_text())
  assert found["same tensors"] and found["largest_leaf"] == "llm/layers/mlp/down_proj/kernel"
  assert found["to"]["peak"] > 1e8 and found["limit"] == 2 * found["largest_leaf_bytes"]
  assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
