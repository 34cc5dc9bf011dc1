# SPDX-License-Identifier: Apache-2.0
"""The scenes that a model selects in a video."""

from collections.abc import Mapping
import dataclasses
import os

import jax
import numpy as np

from filax.infer import encode as seen_lib
from filax.infer import processor as processor_lib
from filax.infer.compiled import Program, on_mesh
from filax.infer.video import Video


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """A group of frames that the llm would see as one."""

  time: float  # Seconds of the frame that stands for it.
  times: np.ndarray  # float32 [K], of all its frames, ascending.
  thumbnail: np.ndarray  # uint8 [h w 3]: the frame that stands for it.
  frames: np.ndarray  # uint8 [K h w 3]


def scenes(
  model,
  params: Mapping,
  video: Video | str | os.PathLike,
  count: int | None = None,
  *,
  selector: str | None = None,
) -> list[Scene]:
  """The scenes of a video in time order, as the selector of a loaded model finds them.

  `count` replaces config.infer.selector.scenes. `selector` is another selector by name: "uniform"
  gives as many groups at even times. `video` is what read_video returned, or a path, which is read
  as the checkpoint's config says. Raises ValueError if a count or name cannot be.
  """
  if not isinstance(video, Video):
    video = processor_lib.of(model).read(os.fspath(video), model)
  if count is not None:
    model = with_count(model, count)
  if selector is not None:
    model = processor_lib.with_selector(model, selector)
  if not model.selector.needs_single:
    video = whole(model, video, count)
  groups = select(model, params, video)
  one = seen_lib.representative(model)
  return [
    Scene(float(video.times[g[one]]), video.times[g], video.frames[g[one]], video.frames[g])
    for g in groups
  ]


def select(model, params, video: Video) -> np.ndarray:
  """int [G K]: the frames of each scene, as places in the video."""
  seen_lib.check(model, video)
  frames, mask, places = seen_lib.candidates(model, video)
  with on_mesh(model):
    index, real = jax.device_get(
      SELECT(
        f"1 x {len(frames)} frames", model.clone(processor=None), params, frames[None], mask[None]
      )
    )
  return places[index[0][real[0]]]


def with_count(model, count: int):
  """The model with another number of scenes. Raises ValueError if that cannot be."""
  if count < 1:
    raise ValueError(f"count={count} leaves no scene. Ask for one or more.")
  if not hasattr(model.selector, "scenes"):
    return model  # Groups of neighbours: `whole` picks their frames.
  return model.clone(selector=model.selector.clone(scenes=count))


def whole(model, video: Video, count: int | None) -> Video:
  """The frames that make `count` groups of neighbours (default: config.infer.sampling's)."""
  size = model.selector.size
  if count is None:
    frames = len(video.frames)
    if model.processor is not None:
      frames = min(frames, model.processor.infer["sampling"]["frames"])
    count = max(1, frames // size)
  return video.take(count * size)


def selected(model, params, frames, mask):
  """(index [B G K], mask [B G]) of the groups; XLA leaves out what only the llm would need."""
  empty = jax.numpy.zeros((frames.shape[0], 0, *frames.shape[2:]), jax.numpy.uint8)
  found = model.apply({"params": params}, frames, mask, empty, method="embed")
  return found.index, found.mask


SELECT = Program("selection", selected, static_argnums=0)
