# SPDX-License-Identifier: Apache-2.0
"""The scenes that a model selects in a video."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from filax.infer import encode
from filax.infer.compiled import CountedProgram
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo, VideoSource
from filax.models.video_lm import VideoLM, Visual
from filax.parallel.mesh import without_mesh


@dataclasses.dataclass(frozen=True, eq=False)
class SelectedScene:
  """A group of frames that the selector merges for the llm."""

  time: float  # Seconds of the representative frame.
  times: np.ndarray  # float64 [K]: seconds of all frames, ascending.
  # uint8 [h w 3]: the representative frame; uint8 [K h w 3].
  thumbnail: np.ndarray = dataclasses.field(repr=False)
  frames: np.ndarray = dataclasses.field(repr=False)


@without_mesh()
def find_scenes(
  loaded: LoadedModel,
  video: VideoSource,
  count: int | None = None,
  *,
  selector: str | None = None,
) -> list[SelectedScene]:
  """The scenes that the model's selector chooses, in time order.

  `count` replaces config.infer.selector.scenes. `selector` is another selector by name: "uniform"
  gives as many groups at even times. `video` is a DecodedVideo of read_video, or a path, which is
  read under the checkpoint's config. Raises ValueError for an invalid count or name.
  """
  if not isinstance(video, DecodedVideo):
    video = loaded.read_video(video)
  if count is not None:
    loaded = dataclasses.replace(loaded, model=with_count(loaded.model, count))
  if selector is not None:
    loaded = loaded.with_selector(selector)
  if not loaded.model.selector.needs_single:
    video = even_frames(loaded, video, count)
  place = encode.representative(loaded.model)
  scenes = []
  for group in select_groups(loaded, video):
    times = video.times[group]
    frames = video.frames[group]
    scenes.append(SelectedScene(float(times[place]), times, frames[place], frames))
  return scenes


def select_groups(loaded: LoadedModel, video: DecodedVideo) -> np.ndarray:
  """Frames of each scene as positions in the video: int [G K]."""
  model = loaded.model
  encode.check_video(model, video)
  frames, mask, places = encode.candidates(model, video)
  with loaded.on_mesh():
    label = f"1 x {len(frames)} frames"
    groups = SELECT(label, model, loaded.params, frames[None], mask[None])
  index, real = jax.device_get(groups)
  return places[index[0][real[0]]]


def with_count(model: VideoLM, count: int) -> VideoLM:
  """The model with another number of scenes.

  Raises ValueError for an invalid number.
  """
  if count < 1:
    raise ValueError(f"count={count} leaves no scene. Ask for one or more.")
  if not model.selector.chooses_scenes:
    return model  # Groups of neighbours: `even_frames` picks their frames.
  return model.clone(selector=model.selector.clone(scenes=count))


def even_frames(loaded: LoadedModel, video: DecodedVideo, count: int | None) -> DecodedVideo:
  """The frames of `count` groups of neighbours.

  Default: as many groups as config.infer.sampling gives.
  """
  size = loaded.model.selector.size
  if count is None:
    frames = min(len(video.frames), loaded.processor.sampling["frames"])
    count = max(1, frames // size)
  return video.spread(count * size)


def selected_groups(model: VideoLM, params, frames, mask):
  """The groups' index [B G K] and mask [B G].

  XLA eliminates computations that only the llm would need.
  """
  batch, _, *picture = frames.shape
  no_images = jnp.zeros((batch, 0, *picture), jnp.uint8)
  result = model.apply({"params": params}, frames, mask, no_images, method="embed")
  visual = cast(Visual, result)  # apply returns a pair only if some collection is mutable.
  return visual.index, visual.mask


SELECT = CountedProgram("selection", selected_groups, static_argnums=0)
