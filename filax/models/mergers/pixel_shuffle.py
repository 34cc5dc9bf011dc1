# SPDX-License-Identifier: Apache-2.0
"""Pixel shuffle, VideoChat-Flash's spatial downsampling (§6.1).

The channels of a square of tokens become the channels of one token. Together with the projector's
first layer this is the strided convolution.
"""

import math
from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.roles import Grid, Merger


class PixelShuffle(nn.Module, Merger):
  """Pixel shuffle within each frame or picture.

  [B G K N E] -> [B G K·tokens s²E], s² = N / tokens. It keeps all values. It runs in front of the
  projector, whose mlp takes any width.
  """

  stages = ("vision",)

  tokens: int = 49  # A frame.
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grid(self, frames: int, grid: Grid) -> Grid:
    """The grids of all frames below one another.

    Raises ValueError if they do not divide.
    """
    rows, cols = self.image_grid(grid)
    return frames * rows, cols

  def image_grid(self, grid: Grid) -> Grid:
    side = self.side(grid)
    return grid[0] // side, grid[1] // side

  def side(self, grid: Grid) -> int:
    """s, the tokens on a side of the squares.

    Raises ValueError naming the valid counts.
    """
    rows, cols = grid
    side_of_count = {}
    for side in range(1, min(grid) + 1):
      if rows % side == 0 and cols % side == 0:
        side_of_count[rows * cols // side**2] = side
    if self.tokens not in side_of_count:
      raise ValueError(
        f"config.model.merger.tokens={self.tokens}: pixel shuffle joins squares of tokens, and no "
        f"size of square turns {rows} x {cols} tokens into {self.tokens}. Set it to one of "
        f"{', '.join(map(str, side_of_count))}, or use another merger."
      )
    return side_of_count[self.tokens]

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n F"]:
    y = self._shuffle(x)
    return y.reshape(*x.shape[:2], -1, y.shape[-1])

  def merge_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n F"]:
    return self._shuffle(x)

  def _shuffle(self, x: Float[Array, "*b N E"]) -> Float[Array, "*b n F"]:
    *lead, tokens, width = x.shape
    rows = math.isqrt(tokens)  # Every encoder's grid is square.
    cols = tokens // rows
    side = self.side((rows, cols))
    squares = x.reshape(-1, rows // side, side, cols // side, side, width)
    squares = squares.transpose(0, 1, 3, 2, 4, 5)  # [b, rows / s, cols / s, s, s, E]
    y = squares.reshape(*lead, self.tokens, side * side * width)
    return y.astype(jnp.dtype(self.dtype))


VARIANTS = {"16": dict(tokens=16), "49": dict(tokens=49), "196": dict(tokens=196)}

Model = PixelShuffle
