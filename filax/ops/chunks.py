# SPDX-License-Identifier: Apache-2.0
"""Cuts an array's second axis into chunks and joins them again.

x [B L ...] -> [L/size B size ...] -> x: of B = 1, L = 5, size = 2:

[a b c d e] -> pad -> [a b c d e 0] -> cut -> [[a b]] [[c d]] [[e 0]] -> join -> [a b c d e]
"""

import jax.numpy as jnp
from jaxtyping import Array


def pad(x: Array, size: int, value: int = 0) -> Array:
  """Pads the second axis with `value` until `size` divides it.

  x is [B L ...].
  """
  after = -x.shape[1] % size
  widths = [(0, 0)] * x.ndim
  widths[1] = (0, after)
  return jnp.pad(x, widths, constant_values=value)


def cut(x: Array, size: int) -> Array:
  """Cuts the second axis into chunks of `size`.

  [B L ...] -> [L/size B size ...].
  """
  batch, _, *rest = x.shape
  chunks = x.reshape(batch, -1, size, *rest)
  return jnp.moveaxis(chunks, 1, 0)


def join(chunks: Array, length: int) -> Array:
  """Joins chunks and removes padding.

  [n B size ...] -> [B length ...].
  """
  _, batch, _, *rest = chunks.shape
  joined = jnp.moveaxis(chunks, 0, 1)
  joined = joined.reshape(batch, -1, *rest)
  return joined[:, :length]
