# SPDX-License-Identifier: Apache-2.0
"""Pooling of a grid of tokens, as two products with precomputed operators.

An operator [out size] resamples one axis. For 4 places to 2:

  linear_operator  [[.5 .5  0  0]       area_operator  [[.5 .5  0  0]
                    [ 0  0 .5 .5]]                      [ 0  0 .5 .5]]

and for 5 places to 2, where only the area operator averages over all places in between:

  linear_operator  [[.25 .75 0  0  0]   area_operator  [[.4 .4 .2  0  0]
                    [ 0  0  0 .75 .25]]                 [ 0  0 .2 .4 .4]]
"""

import functools
import math

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def linear_operator(size: int, out: int) -> np.ndarray:
  """Matrix of linear resampling along one axis, float64 [out size].

  The same as torch's interpolate(align_corners=False) without antialiasing: output o reads the two
  neighbours of (o + 1/2) size / out - 1/2.
  """
  rows = np.arange(out)
  center = (rows + 0.5) * size / out - 0.5
  center = np.clip(center, 0, size - 1)
  low = np.floor(center).astype(int)
  high = np.minimum(low + 1, size - 1)
  share_of_high = center - low
  table = np.zeros((out, size))
  np.add.at(table, (rows, low), 1 - share_of_high)
  np.add.at(table, (rows, high), share_of_high)
  return table


@functools.cache
def bilinear_operator(size: int, out: int) -> np.ndarray:
  """`linear_operator` in float32."""
  return linear_operator(size, out).astype(np.float32)


@functools.cache
def area_operator(size: int, out: int) -> np.ndarray:
  """Matrix of means over equal intervals, float32 [out size].

  A cell on the border of two intervals contributes to both in proportion.
  """
  cuts = np.arange(out + 1) * (size / out)
  starts = cuts[:-1, None]
  stops = cuts[1:, None]
  cells = np.arange(size)
  overlap = np.minimum(stops, cells + 1) - np.maximum(starts, cells)
  table = np.clip(overlap, 0, None) * (out / size)
  return table.astype(np.float32)


def pooled_grid(grid: tuple[int, int], side: int) -> tuple[int, int]:
  """Rows and columns after pooling by `side`.

  A partial window at the border counts.
  """
  return math.ceil(grid[0] / side), math.ceil(grid[1] / side)


def bilinear(
  x: Float[Array, "*b N D"],
  grid: tuple[int, int],
  side: int = 2,
) -> Float[Array, "*b M D"]:
  """Resamples N = rows·cols row-major tokens to M = ceil(rows/side)·ceil(cols/side).

  Computed in float32, returned in the dtype of x.
  """
  rows, cols = grid
  out = pooled_grid(grid, side)
  over_rows = bilinear_operator(rows, out[0])
  over_cols = bilinear_operator(cols, out[1])
  pooled = _two_products(x, grid, over_rows, over_cols)
  *lead, _, width = x.shape
  flat = pooled.reshape(*lead, math.prod(out), width)
  return flat.astype(x.dtype)


def area_means(
  x: Float[Array, "*b N D"],
  grid: tuple[int, int],
  out: tuple[int, int],
) -> Float[Array, "*b p q D"]:
  """Means over p x q = `out` equal areas, in float32.

  x has N = rows·cols row-major tokens.
  """
  rows, cols = grid
  over_rows = area_operator(rows, out[0])
  over_cols = area_operator(cols, out[1])
  return _two_products(x, grid, over_rows, over_cols)


def _two_products(x, grid, over_rows, over_cols) -> Float[Array, "*b p q D"]:
  """Applies one operator along the rows and one along the columns.

  `over_rows` [p r], `over_cols` [q c]; computed in float32.
  """
  *lead, _, width = x.shape
  y = x.astype(jnp.float32)
  y = y.reshape(*lead, *grid, width)
  exact = lax.Precision.HIGHEST
  y = jnp.einsum("pr,...rcD->...pcD", over_rows, y, precision=exact)
  return jnp.einsum("qc,...pcD->...pqD", over_cols, y, precision=exact)
