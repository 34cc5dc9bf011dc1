# SPDX-License-Identifier: Apache-2.0
"""Uneven downsampling of the frames of a clip (VideoChat-Flash §6.1).

The first frame keeps more tokens than the others. The paper gives no sizes. Here the first frame
of 4 keeps about five times the tokens of the others. Tokens are averages over equal areas of their
frame.
"""

from collections.abc import Sequence
import math
from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.roles import Grid, Merger
from filax.ops import pooling
from filax.ops.tome import near_square

# Tokens a frame on average -> grid of the first frame, grid of each of the three others.
GRIDS = {
  16: ((8, 5), (4, 2)),
  49: ((11, 11), (5, 5)),
  196: ((22, 22), (10, 10)),
}


class Uneven(nn.Module, Merger):
  """Area means with a finer grid for a group's first frame.

  [B G K N E] -> [B G first + (K-1)·rest E]; a still picture keeps about 4·tokens. `first` and
  `rest` (rows, columns) replace the grids that belong to `tokens`.
  """

  tokens: int = 16  # A frame, on average.
  first: tuple[int, ...] = ()
  rest: tuple[int, ...] = ()
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grids(self, frames: int, grid: Grid) -> list[Grid]:
    """The grid of every frame of a group.

    Raises ValueError for an invalid grid.
    """
    first, rest = self._first_and_rest(frames)
    for rows, cols in (first, rest):
      if not (1 <= rows <= grid[0] and 1 <= cols <= grid[1]):
        raise ValueError(
          f"config.model.merger keeps {rows} x {cols} tokens of a frame that has {grid[0]} x "
          f"{grid[1]}. Lower config.model.merger.tokens, or set config.model.merger.first and "
          "config.model.merger.rest."
        )
    others = [rest] * (frames - 1)
    return [first, *others]

  def _first_and_rest(self, frames: int) -> tuple[Grid, Grid]:
    if self.first and self.rest:
      return _rows_and_columns(self.first), _rows_and_columns(self.rest)
    if frames != 4 or self.tokens not in GRIDS:
      raise ValueError(
        f"config.model.merger.tokens={self.tokens} has no default grids for groups of {frames} "
        f"frames. Groups of 4 frames have them for {', '.join(map(str, GRIDS))} tokens. For other "
        "numbers, set config.model.merger.first and config.model.merger.rest to (rows, columns)."
      )
    return GRIDS[self.tokens]

  def grid(self, frames: int, grid: Grid) -> Grid:
    """The most square grid of a group's tokens.

    Tokens are in the order frame, row, column.
    """
    count = sum(math.prod(frame_grid) for frame_grid in self.grids(frames, grid))
    return near_square(count)

  def image_grid(self, grid: Grid) -> Grid:
    side = max(1, round((4 * self.tokens) ** 0.5))
    return min(grid[0], side), min(grid[1], side)

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n E"]:
    grid = near_square(x.shape[3])
    first, *rest = self.grids(x.shape[2], grid)
    parts = [self._pool(x[:, :, :1], grid, first)]
    if rest:
      others = x[:, :, 1:]
      parts.append(self._pool(others, grid, rest[0]))
    return jnp.concatenate(parts, axis=2)

  def merge_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n E"]:
    grid = near_square(x.shape[2])
    return self._pool(x[:, :, None], grid, self.image_grid(grid))

  def _pool(
    self,
    x: Float[Array, "B G K N E"],
    grid: Grid,
    out: Grid,
  ) -> Float[Array, "B G n E"]:
    """Means over areas of each of K frames, float32 inside."""
    pooled = pooling.area_means(x, grid, out)  # [B G K p q E]
    batch, groups, _, _, width = x.shape
    flat = pooled.reshape(batch, groups, -1, width)
    return flat.astype(jnp.dtype(self.dtype))


def _rows_and_columns(sizes: Sequence[int]) -> Grid:
  rows, columns = sizes
  return rows, columns


VARIANTS = {"16": dict(tokens=16), "49": dict(tokens=49), "196": dict(tokens=196)}

Model = Uneven
