# SPDX-License-Identifier: Apache-2.0
"""Mergers make one set of tokens of the K frames of a group: [B G K N E] -> [B G N' E].

A merger has `stages` (where it may sit: vision = before the projector, projector = after its mlp,
pool = after its pooling), `grid(frames, grid)` and `image_grid(grid)` (static rows and columns of
merged groups and of images), `__call__` for groups and `images` for still pictures.
"""

from flax import linen as nn
from jaxtyping import Array, Float

STAGES = ("vision", "projector", "pool")


def check_stage(merger: nn.Module, stage: str) -> None:
  """Raises ValueError naming config.model.merge_stage if the merger cannot sit there."""
  if stage not in merger.stages:
    raise ValueError(
      f"config.model.merge_stage={stage!r} does not fit merger {type(merger).__name__}. Set it to "
      f"{' or '.join(merger.stages)}.")


class Merger(nn.Module):
  """What most mergers share: K frames become one of the same grid, still pictures stay."""

  stages = STAGES

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
