# SPDX-License-Identifier: Apache-2.0
"""Mergers make one set of tokens of the K frames of a group: [B G K N E] -> [B G N' E].

A merger has `stages` (where it may sit: vision = before the projector, projector = after its mlp,
pool = after its pooling), `grid(frames, grid)` and `image_grid(grid)` (static rows and columns of
merged groups and of images), `__call__` for groups and `images` for still pictures.
"""

from flax import linen as nn
from jaxtyping import Array, Float


class Merger(nn.Module):
  """What most mergers share: K frames become one of the same grid, still pictures stay."""

  stages = ("vision", "projector", "pool")

  def grid(self, frames: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the N' tokens of a group of `frames` frames of `grid` tokens each."""
    del frames
    return grid

  def image_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the N'' tokens of a still picture of `grid` tokens."""
    return grid

  def images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I N E"]:
    """Still pictures [B I N E] -> [B I N'' E]."""
    return x
