# SPDX-License-Identifier: Apache-2.0
"""Bilinear pooling of a grid of tokens, as two products with a precomputed operator."""

import functools
import math

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


@functools.cache
def operator(size: int, out: int) -> np.ndarray:
  """float32 [out size]: bilinear resampling of one axis, corners not aligned, no antialiasing.

  The same as torch's interpolate(mode="bilinear", align_corners=False): output o reads the two
  neighbours of (o + 1/2) size / out - 1/2. It samples; it does not average over what lies between.
  """
  at = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
  low = np.floor(at).astype(int)
  high, share = np.minimum(low + 1, size - 1), at - low
  table = np.zeros((out, size))
  np.add.at(table, (np.arange(out), low), 1 - share)
  np.add.at(table, (np.arange(out), high), share)
  return table.astype(np.float32)


def pooled_grid(grid: tuple[int, int], side: int) -> tuple[int, int]:
  """Rows and columns after pooling by `side`: a partial window at the border counts."""
  return math.ceil(grid[0] / side), math.ceil(grid[1] / side)


def bilinear(
  x: Float[Array, "*b N D"], grid: tuple[int, int], side: int = 2
) -> Float[Array, "*b M D"]:
  """Resamples N = rows·cols row-major tokens to M = ceil(rows/side)·ceil(cols/side).

  Computed in float32, returned in the dtype of x.
  """
  (rows, cols), out = grid, pooled_grid(grid, side)
  y = x.astype(jnp.float32).reshape(*x.shape[:-2], rows, cols, x.shape[-1])
  exact = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
  y = exact("pr,...rcD->...pcD", operator(rows, out[0]), y)
  y = exact("qc,...pcD->...pqD", operator(cols, out[1]), y)
  return y.reshape(*x.shape[:-2], math.prod(out), x.shape[-1]).astype(x.dtype)
