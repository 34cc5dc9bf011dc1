# SPDX-License-Identifier: Apache-2.0
"""Similar token merging of VideoChat-Flash, over the tokens of a clip.

A merged token has no frame and no position in the clip; rows and columns of `grid` only number the
tokens, as in the released tile raster.
"""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from filax.models.roles import Grid, Merger
from filax.ops import tome


class ToMe(nn.Module, Merger):
  """Similar token merging.

  [B G K N E] -> [B G K·tokens E]; a still picture [B I N E] -> [B I 4·tokens E] at most.
  """

  tokens: int = 16  # A frame, on average.
  heads: int = 16  # Heads of the encoder. Similarity is measured on the mean over heads.
  chunk: int = 0  # Clips merged at a time; 0 = all.
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def grid(self, frames: int, grid: Grid) -> Grid:
    """The most square grid of the tokens.

    Raises ValueError if a frame has fewer tokens than the merger keeps.
    """
    check_fewer(self.tokens, grid)
    return tome.near_square(frames * self.tokens)

  def image_grid(self, grid: Grid) -> Grid:
    """The grid of a group of 4 frames.

    `grid` itself for a picture with at most that many tokens.
    """
    target = 4 * self.tokens
    if target >= grid[0] * grid[1]:
      return grid
    return tome.near_square(target)

  def __call__(self, x: Float[Array, "B G K N E"]) -> Float[Array, "B G n E"]:
    batch, groups, frames, tokens, width = x.shape
    clips = x.reshape(batch * groups, frames * tokens, width)
    merged = self._merge(clips, frames * self.tokens)
    return merged.reshape(batch, groups, -1, width)

  def merge_images(self, x: Float[Array, "B I N E"]) -> Float[Array, "B I n E"]:
    batch, images, tokens, width = x.shape
    pictures = x.reshape(-1, tokens, width)
    merged = self._merge(pictures, min(tokens, 4 * self.tokens))
    return merged.reshape(batch, images, -1, width)

  def flops(self, frames: int, grid: Grid, width: int) -> float:
    """FLOPs of the similarities of one group.

    Two per pair and channel of the mean head.
    """
    count = frames * grid[0] * grid[1]
    target = frames * self.tokens
    total = 0.0
    for merged in tome.schedule(count, target):
      odd = count // 2
      even = count - odd
      total += 2 * even * odd * (width // self.heads)
      count -= merged
    return total

  def _merge(self, clips: Float[Array, "b p E"], target: int) -> Float[Array, "b n E"]:
    if clips.shape[-1] % self.heads:
      raise ValueError(
        f"config.model.merger.heads={self.heads} does not divide a token's {clips.shape[-1]} "
        "channels. Set it to the heads of the encoder."
      )
    merged, _ = tome.merge_clips(clips, target, self.heads, self.chunk)
    return merged.astype(jnp.dtype(self.dtype))


def check_fewer(tokens: int, grid: Grid) -> None:
  """Raises ValueError if a frame of `grid` tokens cannot become `tokens`."""
  tokens_before = grid[0] * grid[1]
  if not 1 <= tokens <= tokens_before:
    raise ValueError(
      f"config.model.merger.tokens={tokens} does not fit frames of {grid[0]} x {grid[1]} tokens. "
      f"Set it to a number from 1 to {tokens_before}."
    )


VARIANTS = {"16": dict(tokens=16), "49": dict(tokens=49), "196": dict(tokens=196)}

Model = ToMe
