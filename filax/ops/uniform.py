# SPDX-License-Identifier: Apache-2.0
"""Evenly spread selection of the real frames of a padded video."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def real_first(mask: Bool[Array, "T"]) -> Int[Array, "T"]:
  """Slots of the real frames in time order, then padding slots."""
  return jnp.argsort(~mask, stable=True)


def evenly(mask: Bool[Array, "T"], count: int) -> Int[Array, "count"]:
  """`count` real frames from the first to the last, int32, ascending.

  The ranks are those of a linspace, truncated to integers. With fewer than `count` real frames, all
  are taken and some are repeated; without any, the result is the first slots.

    mask = [1 1 0 1 1 1], count = 3  ->  real frames 0 1 3 4 5, ranks 0 2 4  ->  [0 3 5]
  """
  real = mask.sum(dtype=jnp.int32)
  last = jnp.maximum(real - 1, 0)
  pick = jnp.arange(count, dtype=jnp.int32)
  rank = pick * last // max(count - 1, 1)
  slots = real_first(mask)
  return slots[rank].astype(jnp.int32)
