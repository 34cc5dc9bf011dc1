# SPDX-License-Identifier: Apache-2.0
"""Uneven downsampling, VideoChat-Flash §6.1: a clip's first frame in detail, the others coarsely.

The paper gives no sizes. Here the first frame of 4 keeps about five times the tokens of the others,
and tokens are averages over areas: each stands for the same share of its frame.
"""

import functools
import math
from typing import Any

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from filax.models.mergers import Merger
from filax.models.mergers.tome import near_square

# Tokens a frame on average -> grid of the first frame, grid of each of the three others.
GRIDS = {16: ((8, 5), (4, 2)), 49: ((11, 11), (5, 5)), 196: ((22, 22), (10, 10))}


class Uneven(Merger):
  """[B G K N E] -> [B G first + (K-1)·rest E]; a still picture keeps about 4·tokens.

  `first` and `rest` (rows, columns) replace the grids that belong to `tokens`.
  """

  tokens: int = 16  # A frame, on average.
  first: tuple[int, ...] = ()
  rest: tuple[int, ...] = ()
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grids(self, frames: int, grid: tuple[int, int]) -> list[tuple[int, int]]:
    """The grid of every frame of a group. Raises ValueError if one cannot be."""
    if not (self.first and self.rest) and (frames != 4 or self.tokens not in GRIDS):
      raise ValueError(
        f"config.model.merger.tokens={self.tokens} has no grids for groups of {frames} frames; "
        f"{', '.join(map(str, GRIDS))} have, for 4 frames. Set config.model.merger.first and .rest "
        "to (rows, columns)."
      )
    first, rest = (self.first, self.rest) if self.first and self.rest else GRIDS[self.tokens]
    for rows, cols in (first, rest):
      if not (1 <= rows <= grid[0] and 1 <= cols <= grid[1]):
        raise ValueError(
          f"config.model.merger asks {rows} x {cols} tokens of a frame that has {grid[0]} x "
          f"{grid[1]}. Lower config.model.merger.tokens, or set .first and .rest."
        )
    return [tuple(first), *[tuple(rest)] * (frames - 1)]

  def grid(self, frames: int, grid: tuple[int, int]) -> tuple[int, int]:
    """The count as near to a square as it can be; the order is frame, row, column."""
    return near_square(sum(math.prod(g) for g in self.grids(frames, grid)))

  def image_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
    side = max(1, round((4 * self.tokens) ** 0.5))
    return min(grid[0], side), min(grid[1], side)

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n E"]:
    grid = near_square(x.shape[3])
    first, *rest = self.grids(x.shape[2], grid)
    parts = [self._pool(x[:, :, :1], grid, first)]
    if rest:
      parts.append(self._pool(x[:, :, 1:], grid, rest[0]))
    return jnp.concatenate(parts, axis=2)

  def images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n E"]:
    grid = near_square(x.shape[2])
    return self._pool(x[:, :, None], grid, self.image_grid(grid))

  def _pool(self, x: Float[Array, "B G K N E"], grid, out) -> Float[Array, "B G n E"]:
    """Means over areas of each of K frames, float32 inside."""
    y = x.astype(jnp.float32).reshape(*x.shape[:3], *grid, x.shape[-1])
    exact = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    y = exact("pr,BGKrcE->BGKpcE", areas(grid[0], out[0]), y)
    y = exact("qc,BGKpcE->BGKpqE", areas(grid[1], out[1]), y)
    return y.reshape(*x.shape[:2], -1, x.shape[-1]).astype(jnp.dtype(self.dtype))


@functools.cache
def areas(size: int, out: int) -> np.ndarray:
  """float32 [out size]: the mean over equal stretches; a cell on a border counts by its parts."""
  cuts = np.arange(out + 1) * (size / out)
  cells = np.arange(size)
  overlap = np.minimum(cuts[1:, None], cells + 1) - np.maximum(cuts[:-1, None], cells)
  return (np.clip(overlap, 0, None) * (out / size)).astype(np.float32)


VARIANTS = {"16": dict(tokens=16), "49": dict(tokens=49), "196": dict(tokens=196)}

Model = Uneven
