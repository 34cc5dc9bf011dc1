# SPDX-License-Identifier: Apache-2.0
"""Evenly spread picks among the real frames of a padded video."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def real_first(mask: Bool[Array, "T"]) -> Int[Array, "T"]:
  """Slots of the real frames in time order, then those of the padding."""
  return jnp.argsort(~mask, stable=True)


def spread(mask: Bool[Array, "T"], count: int) -> Int[Array, "count"]:
  """`count` real frames from the first to the last, int32, ascending.

  The positions are those of linspace, cut to integers. With fewer than `count` real frames each is
  taken and some are repeated; with none the result is slot 0 or whatever slots come first.
  """
  last = jnp.maximum(mask.sum(dtype=jnp.int32) - 1, 0)
  rank = jnp.arange(count, dtype=jnp.int32) * last // max(count - 1, 1)
  return real_first(mask)[rank].astype(jnp.int32)
