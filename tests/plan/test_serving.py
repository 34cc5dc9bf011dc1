# SPDX-License-Identifier: Apache-2.0
"""Answers of the toy on the smallest slice, compiled ahead of time, without a TPU."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("libtpu")

FRAMES = 48
DROPOUT = "1:uniform:0.75+2:attention:0.25"


@pytest.fixture(scope="module")
def plan():
  """`filax plan --serve` in a process of its own, without and with dropout."""
  words = [sys.executable, "-m", "filax", "plan", "--config", "configs/vcf_toy.py", "--json"]
  words += ["--topology", "v5e:2x2", "--serve", "--frames", str(FRAMES)]
  done = subprocess.run(
    [*words, "--dropout", f"off,{DROPOUT}"],
    capture_output=True,
    text=True,
    timeout=900,
    env=os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=""),
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout)


def test_heads_split_and_everything_fits(plan):
  assert plan["mesh"] == dict(data=1, fsdp=2, seq=1, tensor=2), "two key and value heads"
  assert plan["fits"] and all(row["token"]["seconds"] > 0 for row in plan["rows"])


def test_dropout_shortens_the_cache(plan):
  full, dropped = plan["rows"]
  assert (full["dropout"], dropped["dropout"]) == ("off", DROPOUT)
  assert dropped["token"]["cache"] < full["token"]["cache"]
  assert dropped["prefill"]["flops"] < full["prefill"]["flops"]


def test_the_cache_is_what_generation_allocates(plan):
  """Three layers, two prompts over fsdp, 2 heads of 24 over tensor, keys and values, float32."""
  full, _ = plan["rows"]
  slots = full["positions"] + full["new_tokens"]
  cache = 3 * slots * 24 * 2 * 4
  assert full["token"]["cache"] == pytest.approx(cache, rel=0.05)
  assert full["token"]["bytes"] == full["token"]["cache"] + full["token"]["weights"]
