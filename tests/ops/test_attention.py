# SPDX-License-Identifier: Apache-2.0
"""Attention against NumPy in float64, and the blockwise spelling against the dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import dense
from filax.ops.attention.blockwise import blockwise

PORTABLE = ("auto", "dense", "blockwise")  # The other kernels need their hardware.


def case(length=13, keys=13, heads=4, kv_heads=2, d=8, seed=0):
  """Two rows: one of three segments and padding, one of a single segment."""
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return rng.standard_normal(shape).astype(np.float32)

  q, k, v = draw(2, length, heads, d), draw(2, keys, kv_heads, d), draw(2, keys, kv_heads, d)
  bounds = np.linspace(0, keys, 5).astype(int)[1:-1]
  kv_segment = np.stack([1 + np.searchsorted(bounds, np.arange(keys), "right"), np.ones(keys)])
  kv_segment[0][kv_segment[0] == 4] = 0
  kv_place = np.tile(np.arange(keys), (2, 1))

  def at(x, y):
    return (jnp.asarray(x, jnp.int32), jnp.asarray(y, jnp.int32))

  tail = slice(keys - length, None)  # Queries are the last places, as in a decode step.
  return (
    *map(jnp.asarray, (q, k, v)),
    at(kv_segment[:, tail], kv_place[:, tail]),
    at(kv_segment, kv_place),
  )


def reference(q, k, v, q_at, kv_at):
  """One query and head at a time, float64."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  out = np.zeros_like(q)
  group = q.shape[2] // k.shape[2]
  for b, i, h in np.ndindex(q.shape[:3]):
    seen = np.asarray((kv_at[0][b] == q_at[0][b, i]) & (kv_at[1][b] <= q_at[1][b, i]))
    score = k[b, seen, h // group] @ q[b, i, h] / np.sqrt(q.shape[-1])
    weight = np.exp(score - score.max())
    out[b, i, h] = weight / weight.sum() @ v[b, seen, h // group]
  return out


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize(
  "shape", [dict(), dict(kv_heads=4), dict(kv_heads=1), dict(length=1), dict(length=3, keys=17)]
)
def test_equals_float64(name, shape):
  inputs = case(**shape)
  out = jax.jit(dense.attention_kernel(name))(*inputs)
  np.testing.assert_allclose(out, reference(*inputs), atol=2e-6, rtol=0)


@pytest.mark.parametrize("block", [1, 4, 13, 64])
def test_blockwise_and_its_gradient_equal_dense(block):
  q, k, v, q_at, kv_at = case()
  weight = jnp.asarray(np.random.default_rng(1).standard_normal(q.shape), jnp.float32)

  def loss(attend):
    return lambda q, k, v: (attend(q, k, v, q_at, kv_at) * weight).sum()

  def inner(*inputs):
    return blockwise(*inputs, block=block)

  want = jax.jit(jax.value_and_grad(loss(dense.dense), argnums=(0, 1, 2)))(q, k, v)
  have = jax.jit(jax.value_and_grad(loss(inner), argnums=(0, 1, 2)))(q, k, v)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6, rtol=1e-5), have, want)


def test_a_loop_over_layers_keeps_the_masks_of_one_block():
  """All of them would be 64 MiB a use here: places are the same in every layer."""
  x = jax.ShapeDtypeStruct((1, 4096, 4, 8), jnp.float32)
  at = (jax.ShapeDtypeStruct((1, 4096), jnp.int32),) * 2

  def loss(x, at):
    def layer(x, _):
      return (x + blockwise(x, x[:, :, :1], x[:, :, :1], at, at, block=64), None)

    return jax.lax.scan(layer, x, None, length=3)[0].sum()

  compiled = jax.jit(jax.grad(loss)).lower(x, at).compile()
  used = compiled.memory_analysis().temp_size_in_bytes
  assert used < 32 * 2**20, used


def test_keys_after_the_query_never_matter():
  """What a cache holds beyond its length has later places, whatever it contains."""
  q, k, v, q_at, kv_at = case(length=1, keys=9)
  q_at, kv_at = ((jnp.ones_like(segment), place) for segment, place in (q_at, kv_at))
  q_at = (q_at[0], q_at[1] - 4)
  out = dense.dense(q, k, v, q_at, kv_at)
  changed = dense.dense(q, k.at[:, 5:].set(1e4), v.at[:, 5:].set(1e30), q_at, kv_at)
  np.testing.assert_array_equal(out, changed)


def test_a_query_without_keys_is_finite():
  q, k, v, (segment, place), kv_at = case()
  for name in PORTABLE:
    assert jnp.isfinite(dense.attention_kernel(name)(q, k, v, (segment + 7, place), kv_at)).all()


def test_bfloat16_keeps_a_float32_softmax():
  inputs = case(keys=64, length=64)
  low = [x.astype(jnp.bfloat16) for x in inputs[:3]]
  want = reference(*[x.astype(jnp.float32) for x in low], *inputs[3:])
  for name in PORTABLE:
    out = dense.attention_kernel(name)(*low, *inputs[3:])
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(np.float32), want, atol=2e-2, rtol=2e-2)


def test_an_unknown_kind_names_the_knob():
  with pytest.raises(ValueError, match=r"config.model.llm.attention='flash'.*dense"):
    dense.attention_kernel("flash")
