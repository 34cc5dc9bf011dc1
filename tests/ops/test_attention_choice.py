# SPDX-License-Identifier: Apache-2.0
"""What attention="auto" stands for, by table, and the bounds that cuDNN is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import blockwise, choice, cudnn, sequence_parallel
from filax.ops.attention.choice import UNKNOWN, Layout
from filax.ops.attention.device import Device
from filax.parallel import mesh, zigzag

CPU = Device("cpu")
TPU = Device("tpu")
TURING, AMPERE, HOPPER = (Device("gpu", (number, 0)) for number in (7, 8, 9))
LONG = dict(queries=8192, keys=8192)
SHORT = dict(queries=1024, keys=1024)
CHUNK = dict(queries=4096, keys=32_768)  # Of a prompt, behind a cache.

TABLE = [
  # device, dtype, head size, layout -> kernel
  (CPU, "float32", 64, dict(queries=256, keys=256), "dense"),
  (CPU, "float32", 64, dict(queries=512, keys=512), "blockwise"),
  (CPU, "float32", 64, dict(SHORT), "blockwise"),
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


def test_cudnn_by_name_needs_whole_rows():
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=1, seq=8, tensor=1))):
    with pytest.raises(ValueError, match=r"'cudnn' has no sequence='gather'"):
      sequence_parallel.attend("cudnn", "gather", samples=1)


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


def test_whole_rows_are_in_the_order_of_places(monkeypatch):
  """Under ulysses a kernel for whole rows sees natural order, and its output is shared again."""

  def double(q, k, v, q_at, kv_at):
    return q * (1 + q_at[1])[:, :, None, None]

  monkeypatch.setattr(cudnn, "causal", double)
  order = zigzag.order(16, 2)
  q = jnp.asarray(np.random.default_rng(0).standard_normal((2, 16, 4, 8)), jnp.float32)
  place = jnp.broadcast_to(jnp.arange(16), (2, 16))
  at = (jnp.ones_like(place), place)
  shared = jax.tree.map(lambda x: x[:, order], (q, q, q, at, at))
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=1, seq=2, tensor=1), jax.devices()[:2])):
    out = jax.jit(sequence_parallel.attend("cudnn", "ulysses", samples=1))(*shared)
  np.testing.assert_array_equal(out, double(q, q, q, at, at)[:, order])


@pytest.mark.parametrize(
  ("group", "tile"),
  [(1, (512, 256)), (2, (512, 128)), (4, (256, 128)), (7, (128, 128)), (16, (64, 128))],
)
def test_tiles_on_a_cpu(group, tile):
  assert blockwise.cpu_tile(group) == tile
