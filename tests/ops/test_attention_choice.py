# SPDX-License-Identifier: Apache-2.0
"""What attention="auto" stands for, by table, and the bounds that cuDNN is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import choice, cudnn, sequence_parallel
from filax.ops.attention.choice import UNKNOWN, Layout
from filax.ops.attention.device import Device

CPU = Device("cpu")
TPU = Device("tpu")
TURING, AMPERE, HOPPER = (Device("gpu", (number, 0)) for number in (7, 8, 9))
LONG = dict(queries=8192, keys=8192)
SHORT = dict(queries=1024, keys=1024)
CHUNK = dict(queries=4096, keys=32_768)  # Of a prompt, behind a cache.

TABLE = [
  # device, dtype, head size, layout -> kernel
  (CPU, "float32", 64, dict(SHORT), "dense"),
  (CPU, "float32", 64, dict(LONG), "blockwise"),
  (CPU, "bfloat16", 128, dict(LONG, samples=1), "blockwise"),
  (CPU, "float32", 64, dict(queries=1, keys=1_000_000), "dense"),
  (CPU, "float32", 64, dict(CHUNK), "blockwise"),
  (TPU, "bfloat16", 128, dict(LONG, splash=True), "splash"),
  (TPU, "float32", 128, dict(LONG, samples=8, splash=True), "splash"),
  (TPU, "bfloat16", 128, dict(LONG), "blockwise"),
  (TPU, "bfloat16", 128, dict(SHORT), "dense"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=1), "cudnn_causal"),
  (HOPPER, "float16", 64, dict(SHORT, samples=1), "cudnn_causal"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=8), "cudnn_packed"),
  (HOPPER, "bfloat16", 256, dict(LONG, samples=1), "cudnn_causal"),
  (HOPPER, "bfloat16", 100, dict(LONG, samples=1), "blockwise"),
  (HOPPER, "float32", 128, dict(LONG, samples=1), "blockwise"),
  (HOPPER, "float32", 128, dict(SHORT, samples=8), "dense"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=UNKNOWN), "blockwise"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=1000), "blockwise"),
  (HOPPER, "bfloat16", 128, dict(CHUNK), "blockwise"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=1, shards=8), "blockwise"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=1, shards=8, strategy="ring"), "blockwise"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=1, shards=4, strategy="ulysses"), "cudnn_causal"),
  (HOPPER, "bfloat16", 128, dict(LONG, samples=4, shards=4, strategy="ulysses"), "cudnn_packed"),
  (AMPERE, "bfloat16", 128, dict(LONG, samples=1), "cudnn_causal"),
  (AMPERE, "bfloat16", 256, dict(LONG, samples=1), "blockwise"),
  (AMPERE, "bfloat16", 128, dict(LONG, samples=8), "blockwise"),
  (TURING, "float16", 128, dict(LONG, samples=1), "blockwise"),
]


@pytest.mark.parametrize("device,dtype,head_dim,layout,kernel", TABLE)
def test_the_table(device, dtype, head_dim, layout, kernel):
  assert choice.choose(device, dtype, head_dim, Layout(**layout)) == kernel


def test_bounds_of_samples():
  segment = jnp.asarray([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1], [3, 4, 5, 0, 0, 0]])
  lengths, first = cudnn.sample_bounds(segment, 3)
  np.testing.assert_array_equal(lengths, [[2, 3, -1], [6, -1, -1], [1, 1, 1]])
  np.testing.assert_array_equal(first, [[0, 2, -1, -1], [0, -1, -1, -1], [0, 1, 2, -1]])


def test_bounds_of_an_empty_row_and_of_more_samples_than_places():
  lengths, first = cudnn.sample_bounds(jnp.asarray([[0, 0]]), 4)
  np.testing.assert_array_equal(lengths, [[-1] * 4])
  np.testing.assert_array_equal(first, [[-1] * 5])


def test_cudnn_by_name_needs_the_number_of_samples():
  with pytest.raises(ValueError, match=r"config.model.llm.attention='cudnn' needs rows"):
    sequence_parallel.attend("cudnn", "gather")


@pytest.mark.parametrize("samples,name", [(1, "causal"), (3, "packed")])
def test_a_gpu_runs_the_kernel_that_the_table_names(monkeypatch, samples, name):
  calls = []

  def kernel(q, k, v, q_at, kv_at, **options):
    calls.append((name, options))
    return q

  monkeypatch.setattr(cudnn, name, kernel)
  monkeypatch.setattr(sequence_parallel, "device_in_use", lambda: HOPPER)
  q = jax.ShapeDtypeStruct((2, 4096, 4, 64), jnp.bfloat16)
  k = jax.ShapeDtypeStruct((2, 4096, 2, 64), jnp.bfloat16)
  at = (jax.ShapeDtypeStruct((2, 4096), jnp.int32),) * 2
  jax.eval_shape(sequence_parallel.attend("auto", "gather", samples=samples), q, k, k, at, at)
  assert calls == [(name, dict(samples=samples) if samples > 1 else {})]
