# SPDX-License-Identifier: Apache-2.0
"""Pixel shuffle, VideoChat-Flash's spatial downsampling (§6.1): a square of tokens becomes the
channels of one. The projector's first layer reads them, which makes it the strided convolution.
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.mergers import Merger


class PixelShuffle(Merger):
  """[B G K N E] -> [B G K·tokens s²E], s² = N / tokens, frame by frame; pictures likewise.

  Nothing is averaged and nothing is lost. It sits in front of the projector, whose mlp takes any
  width.
  """

  stages = ("vision",)

  tokens: int = 49  # A frame.
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grid(self, frames: int, grid: tuple[int, int]) -> tuple[int, int]:
    """The frames' grids below one another; ValueError if they do not divide."""
    rows, cols = self.image_grid(grid)
    return frames * rows, cols

  def image_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
    side = self.side(grid)
    return grid[0] // side, grid[1] // side

  def side(self, grid: tuple[int, int]) -> int:
    """Tokens a side of the squares: s. Raises ValueError naming the counts that can be."""
    counts = {
      grid[0] * grid[1] // s**2: s
      for s in range(1, min(grid) + 1)
      if not grid[0] % s and not grid[1] % s
    }
    if self.tokens not in counts:
      raise ValueError(
        f"config.model.merger.tokens={self.tokens} a frame cannot be made of {grid[0]} x {grid[1]} "
        f"tokens by whole squares. Set it to one of {', '.join(map(str, counts))}, or take another "
        "merger."
      )
    return counts[self.tokens]

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n F"]:
    y = self._shuffle(x)
    return y.reshape(*x.shape[:2], -1, y.shape[-1])

  def images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n F"]:
    return self._shuffle(x)

  def _shuffle(self, x: Float[Array, "*b N E"]) -> Float[Array, "*b n F"]:
    rows = math.isqrt(x.shape[-2])  # Every encoder's grid is square.
    side = self.side((rows, x.shape[-2] // rows))
    lead, (tokens, width) = x.shape[:-2], x.shape[-2:]
    y = x.reshape(-1, rows // side, side, tokens // rows // side, side, width)
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(*lead, self.tokens, side * side * width)
    return y.astype(jnp.dtype(self.dtype))


VARIANTS = {"16": dict(tokens=16), "49": dict(tokens=49), "196": dict(tokens=196)}

Model = PixelShuffle
