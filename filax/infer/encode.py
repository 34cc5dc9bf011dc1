# SPDX-License-Identifier: Apache-2.0
"""What a VideoLM sees of a medium: encoded once, shown in any number of prompts."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from data_pipelines.packing import tiles as images
from data_pipelines.packing import visual_order
from data_pipelines.packing.tiles import Views
from data_pipelines.text import templates
from filax.infer.compiled import Program, on_mesh
from filax.infer.video import Video, unit_of


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
  """The visual tokens of a video or a picture, on the device, and what they are made of."""

  table: Any  # [M D]: visual tokens, then one newline vector.
  pattern: (
    np.ndarray
  )  # The order in which the tokens are read (data_pipelines.packing.visual_order).
  visual: templates.Visual  # What the text must know: length, duration, times.
  groups: np.ndarray  # int [G K]: the frames of each group, as places in the video.

  @property
  def rows(self) -> int:
    """Visual tokens, without the newline."""
    return self.table.shape[0] - 1


def see(model, params, video: Video) -> Seen:
  """Encodes a video with the model's selector.

  Raises ValueError if the pictures do not have the size of the encoder.
  """
  check(model, video)
  frames, mask, places = candidates(model, video)
  _, height, width, _ = frames.shape
  none = np.zeros((1, 0, height, width, 3), np.uint8)
  with on_mesh(model):
    found = EMBED(
      f"1 x {len(frames)} frames",
      model.clone(processor=None),
      params,
      frames[None],
      mask[None],
      none,
    )
  index, real = jax.device_get((found.index[0], found.mask[0]))
  groups, layout = places[index[real]], model.layout()
  times = video.times[groups]
  pattern = visual_order.video(len(groups), layout)
  visual = templates.Visual(
    len(pattern), video.duration, times.reshape(-1), times[:, representative(model)]
  )
  return Seen(found.table[0], pattern, visual, groups)


def see_picture(model, params, picture: np.ndarray, views: Views) -> Seen:
  """Encodes a still picture [h w 3] with its tiles (images.views)."""
  layout = model.layout()
  pixels = images.pixels(picture, views, layout.size)
  none = np.zeros((1, 0, *pixels.shape[1:]), np.uint8)
  with on_mesh(model):
    found = EMBED(
      f"1 x {len(pixels)} pictures",
      model.clone(processor=None),
      params,
      none,
      np.zeros((1, 0), bool),
      pixels[None],
    )
  pattern = visual_order.image(views, layout)
  return Seen(found.table[0], pattern, templates.Visual(len(pattern)), np.zeros((0, 1), int))


def joined(seen: Sequence[Seen]) -> Float[Array, "M D"]:
  """The visual table of a prompt that shows these media: their tokens, then one newline."""
  if len(seen) == 1:
    return seen[0].table
  return jnp.concatenate([*(s.table[:-1] for s in seen), seen[-1].table[-1:]])


def stacked(tables: Sequence[Float[Array, "_ D"]]) -> Float[Array, "B M D"]:
  """Tables of several prompts as one array; shorter ones are filled up with zeros."""
  most = max(len(t) for t in tables)
  return jnp.stack([jnp.pad(t, ((0, most - len(t)), (0, 0))) for t in tables])


def candidates(model, video: Video) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(frames [T h w 3], mask [T], places [T] in the video) to choose from.

  A selector that chooses sees every frame once: repeats of a short video become padding, and with
  too few frames it spreads what there is. One that groups neighbours takes the frames as they are.
  """
  places = np.arange(len(video.frames))
  mask = np.ones(len(places), bool)
  if not model.selector.needs_single:
    return video.frames, mask, places
  distinct = video.distinct()
  places = np.concatenate([places[distinct], places[~distinct]])
  return video.frames[places], np.sort(distinct)[::-1], places


def representative(model) -> int:
  """The place within a group of the frame that stands for it: the middle one, unless the selector
  says otherwise."""
  return getattr(model.selector, "representative", model.selector.size // 2)


def check(model, video: Video) -> None:
  """Raises ValueError if the model cannot read pictures of this size, or so many frames."""
  (count, height, width), size = video.frames.shape[:3], model.encoder.size
  if (height, width) != (size, size):
    raise ValueError(
      f"The video was read as pictures of {width} x {height} pixels, but the encoder reads "
      f"{size} x {size}. Call read_video with size={size}."
    )
  if not count or count % (unit := unit_of(model)):
    raise ValueError(
      f"The video was read as {count} frames, but the model takes whole groups of {unit}. Call "
      f"read_video with frames={max(1, round(count / unit)) * unit}."
    )


def embed(model, params, frames, mask, images):
  """VideoLM.embed as a function."""
  return model.apply({"params": params}, frames, mask, images, method="embed")


EMBED = Program("encoder", embed, static_argnums=0)
