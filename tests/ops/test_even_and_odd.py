# SPDX-License-Identifier: Apache-2.0
"""The split without a stride equals slices with one; its programs have no stride."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.ops import bipartite, tome
from filax.ops.even_and_odd import even_and_odd

STRIDE = re.compile(r"\d+:\d+:\d+")  # stablehlo writes a slice as [0:4, 0:64:2].


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_it_equals_slices_with_a_step(axis, length):
  shape = [3, 4, 5]
  shape[axis] = length
  x = np.random.default_rng(0).normal(size=shape)
  every = [slice(None)] * 3
  every[axis] = slice(0, None, 2)
  even, odd = even_and_odd(jnp.asarray(x), axis)
  np.testing.assert_array_equal(even, jnp.asarray(x[tuple(every)]))
  every[axis] = slice(1, None, 2)
  np.testing.assert_array_equal(odd, jnp.asarray(x[tuple(every)]))


def test_products_of_token_merging_read_no_slice_with_a_stride():
  """XLA for GPUs aborts at one."""
  x = jax.ShapeDtypeStruct((4, 64, 32), jnp.float32)

  def loss(x):
    tokens, _ = tome.merge_clips(x, 4, heads=4)
    return (tokens**2).sum()

  merging = jax.jit(jax.grad(loss)).lower(x).as_text()
  assert "stablehlo.slice" in merging and not STRIDE.search(merging)

  def frames(x):
    return bipartite.select_frames(x, jnp.ones(64, bool), 4, 3)

  selecting = jax.jit(jax.vmap(frames)).lower(x).as_text()
  assert "stablehlo.slice" in selecting and not STRIDE.search(selecting)
