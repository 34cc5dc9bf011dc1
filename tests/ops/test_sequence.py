# SPDX-License-Identifier: Apache-2.0
"""Attention over the mesh axis seq equals dense attention on one device, forward and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops.attention import dense, sequence_parallel
from filax.parallel import mesh, zigzag

pytestmark = pytest.mark.slow

ROWS, LENGTH, HEADS, KV_HEADS, DIM = 2, 64, 8, 4, 8


@pytest.fixture(scope="module")
def arrays():
  """q, k, v, a cotangent, and two packed rows with padding."""
  rng = np.random.default_rng(0)
  shapes = [(ROWS, LENGTH, heads, DIM) for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)]
  arrays = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
  segment = jnp.asarray(
    np.stack([np.repeat([1, 2, 0], [20, 34, 10]), np.repeat([1, 2, 3], [5, 40, 19])]), jnp.int32
  )
  return (*arrays, (segment, jnp.broadcast_to(jnp.arange(LENGTH), (ROWS, LENGTH))))


def run(attend, q, k, v, cotangent, at):
  """Output and gradients in one compiled call."""

  def both(q, k, v):
    out, pull = jax.vjp(lambda *x: attend(*x, at, at), q, k, v)
    return out, pull(cotangent)

  return jax.jit(both)(q, k, v)


MATRIX = [(k, s, "zigzag") for k in ("dense", "blockwise") for s in sequence_parallel.STRATEGIES]


@pytest.mark.parametrize("kernel,strategy,order", [*MATRIX, ("blockwise", "ring", "natural")])
def test_equals_one_device(arrays, kernel, strategy, order):
  sizes = dict(data=1, fsdp=2, seq=4, tensor=1)
  index = zigzag.order(LENGTH, 4) if order == "zigzag" else np.arange(LENGTH)
  expected = run(dense.dense, *arrays)
  moved = jax.tree.map(lambda x: x[:, index], arrays)
  with jax.set_mesh(mesh.make_mesh(sizes)):
    attend = sequence_parallel.attend(kernel, strategy, ulysses=2)
    found = run(attend, *moved)
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
    np.testing.assert_allclose(a[:, index], b, rtol=0, atol=1e-5)


def test_a_ring_keeps_one_result_a_layer():
  """Not one a step of the ring, which would be 14 MiB here."""
  layout = mesh.make_mesh(dict(data=1, fsdp=1, seq=8, tensor=1))
  spread = jax.NamedSharding(layout, jax.P(None, "seq"))
  x = jax.ShapeDtypeStruct((1, 4096, 1, 128), jnp.float32, sharding=spread)
  at = (jax.ShapeDtypeStruct((1, 4096), jnp.int32, sharding=spread),) * 2

  def loss(x, at):
    attend = sequence_parallel.attend("blockwise", "ring")

    def layer(x, _):
      return (x + attend(x, x, x, at, at), None)

    return jax.lax.scan(layer, x, None, length=8)[0].sum()

  with jax.set_mesh(layout):
    compiled = jax.jit(jax.grad(loss)).lower(x, at).compile()
  used = compiled.memory_analysis().temp_size_in_bytes
  assert used < 16 * 2**20, used


@pytest.mark.parametrize("strategy", ["gather", "ulysses_ring"])
def test_heads_over_tensor(arrays, strategy):
  expected = run(dense.dense, *arrays)
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=1, seq=4, tensor=2))):
    found = run(sequence_parallel.attend("blockwise", strategy, ulysses=2), *arrays)
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_ulysses_needs_heads(arrays):
  q, k, v, _, at = arrays
  with jax.set_mesh(mesh.make_mesh(dict(data=1, fsdp=1, seq=8, tensor=1))):
    with pytest.raises(ValueError, match=r"config.model.llm.ulysses=8 does not fit 6 query heads"):
      sequence_parallel.attend("dense", "ulysses")(q[:, :, :6], k[:, :, :2], v[:, :, :2], at, at)


def test_unknown_names_are_listed():
  with pytest.raises(ValueError, match=r"config.model.llm.sequence='rings' is unknown"):
    sequence_parallel.attend("dense", "rings")
  with pytest.raises(ValueError, match=r"config.model.llm.attention='flash' is unknown"):
    sequence_parallel.attend("flash", "gather")
