# SPDX-License-Identifier: Apache-2.0
"""Bytes that decoding a token touches, counted in the compiled program of a chunk.

Of Qwen2-0.5B's widths and vocabulary. Weights and cache are read once: nothing copies, slices or
transposes the table of embeddings, a layer's weights, or the cache.
"""

import importlib.util
import itertools
import json
import os
import pathlib
import subprocess
import sys

import pytest

from filax.infer.lengths import LENGTHS, NEW
from filax.plan.traffic import loop_bytes

pytestmark = pytest.mark.slow

PROGRAMS = pathlib.Path(__file__).parent.parent / "decode_programs.py"
needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="pip install 'filax[tpu]'"
)


def figures_of(**case):
  """What a token touches, by tests/decode_programs.py."""
  done = subprocess.run(
    [sys.executable, PROGRAMS, json.dumps(case)],
    capture_output=True,
    text=True,
    timeout=300,
    env=os.environ | dict(JAX_PLATFORMS="cpu", XLA_FLAGS=""),
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("tied, rows, slots", [(True, 1, 16_384), (False, 8, 1280)])
def test_a_cpu_reads_weights_and_cache_once(tied, rows, slots):
  """Beside them, scores and logits pass a few times; they stay in the processor's caches."""
  figures = figures_of(platform="cpu", tied=tied, rows=rows, slots=slots)
  once = figures["weights"] + figures["cache"]
  passes = 6 * figures["scores"] + 8 * figures["logits"]
  assert once < figures["touched"] < figures["weights"] + 1.1 * figures["cache"] + passes
  assert figures["temporary"] < 4 * (figures["scores"] + figures["logits"])


@needs_libtpu
@pytest.mark.long
@pytest.mark.parametrize("tied, slots", [(True, 16_384), (False, 32_768)])
def test_a_v5e_reads_weights_and_cache_once(tied, slots):
  figures = figures_of(platform="v5e:2x2", tied=tied, rows=1, slots=slots)
  once = figures["weights"] + figures["cache"]
  assert 0.99 * once < figures["touched"] < figures["weights"] + 1.1 * figures["cache"]
  assert figures["temporary"] < 0.1 * figures["cache"]


def test_buckets_allocate_at_most_a_quarter_more_than_is_used():
  for buckets in (LENGTHS, NEW):
    for below, size in itertools.pairwise(buckets):
      assert size <= 1.25 * (below + 1)


def test_an_update_in_place_counts_by_its_size():
  text = """
ENTRY %main (p: f32[1000,8]) -> f32[1000,8] {
  %p = f32[1000,8]{1,0} parameter(0)
  ROOT %loop = f32[1000,8]{1,0} while(%p), condition=%test, body=%step
}

%step (q: f32[1000,8]) -> f32[1000,8] {
  %q = f32[1000,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %row = f32[1,8]{1,0} dynamic-slice(%q, %zero, %zero), dynamic_slice_sizes={1,8}
  ROOT %after = f32[1000,8]{1,0} dynamic-update-slice(%q, %row, %zero, %zero)
}

%test (q: f32[1000,8]) -> pred[] {
  %q = f32[1000,8]{1,0} parameter(0)
  ROOT %no = pred[] constant(false)
}
"""
  assert loop_bytes(text) == 4 * 32
