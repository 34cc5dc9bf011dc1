# SPDX-License-Identifier: Apache-2.0
"""Calls components, and checks that the arrays they return are those of their role.

The host plans rows with these shapes. If a component returned others, the text would be given the
wrong visual tokens. All functions raise ValueError for another shape.
"""

from collections.abc import Sequence
import math
from typing import Any

from jaxtyping import Array, Float, UInt8

from filax.models.roles import Encoder, Grid, Merger, Projector


def encode_clips(encoder: Encoder, clips: UInt8[Array, "B c h w 3"]) -> Float[Array, "B c N E"]:
  """The patch tokens of clips."""
  shape = (*clips.shape[:2], math.prod(encoder.grid), encoder.width)
  return _checked("encoder", encoder, encoder(clips), shape)


def merge_groups(
  merger: Merger, x: Float[Array, "B G K N E"], grid: Grid
) -> Float[Array, "B G n F"]:
  """Merges groups of frames, each of which has `grid` tokens.

  F = E, unless the merger also makes tokens wider, as pixel shuffling does.
  """
  batch, groups, frames = x.shape[:3]
  tokens = math.prod(merger.grid(frames, grid))
  merged = merger(x)
  return _checked("merger", merger, merged, (batch, groups, tokens, merged.shape[-1]))


def merge_pictures(
  merger: Merger, x: Float[Array, "B I N E"], grid: Grid
) -> Float[Array, "B I n F"]:
  """Merges the tokens of still pictures, each of which has `grid` patches."""
  batch, images = x.shape[:2]
  tokens = math.prod(merger.image_grid(grid))
  merged = merger.merge_images(x)
  return _checked("merger", merger, merged, (batch, images, tokens, merged.shape[-1]))


def project_tokens(projector: Projector, x: Float[Array, "*b E"]) -> Float[Array, "*b D"]:
  """Maps visual tokens to the width of the llm."""
  return _checked("projector", projector, projector.mlp(x), (*x.shape[:-1], projector.out))


def pool_groups(
  projector: Projector, x: Float[Array, "B G N D"], grid: Grid
) -> Float[Array, "B G n D"]:
  """Pools groups of `grid` tokens."""
  batch, groups, _, width = x.shape
  tokens = math.prod(projector.pooled_grid(grid))
  return _checked("projector", projector, projector.pool(x, grid), (batch, groups, tokens, width))


def _checked(role: str, component: Any, x: Array, shape: Sequence[int]) -> Array:
  if x.shape != tuple(shape):
    raise ValueError(
      f"The {role} {type(component).__name__} returned an array of shape {list(x.shape)} where its "
      f"role needs {list(shape)}. Set config.model.{role}.name to a component that does what "
      "filax/models/roles.py says."
    )
  return x
