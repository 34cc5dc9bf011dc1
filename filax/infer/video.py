# SPDX-License-Identifier: Apache-2.0
"""A decoded video, as the public functions take it."""

from collections.abc import Mapping
import dataclasses
import math
import os

import jax.numpy as jnp
import numpy as np

from data_pipelines.media import frames as video
from data_pipelines.media import probe
from data_pipelines.media.open import LIMITS, Limits, MediaError
from data_pipelines.packing import frame_sampling
from data_pipelines.sample import Scene, Timeline


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
  """T frames of a video in time order. Frames that repeat (a short video) have equal times."""

  frames: np.ndarray  # uint8 [T h w 3]
  times: np.ndarray  # float32 [T]: seconds since the first frame, of the frames themselves.
  duration: float  # Seconds of the whole video.
  path: str = ""

  def batch(self) -> dict:
    """The arguments of VideoLM.embed: model.apply({"params": params}, **video.batch(),
    method="embed")."""
    _, height, width, _ = self.frames.shape
    return dict(
      frames=jnp.asarray(self.frames[None]),
      mask=jnp.ones((1, len(self.frames)), bool),
      images=jnp.zeros((1, 0, height, width, 3), jnp.uint8),
    )

  def take(self, count: int) -> "Video":
    """`count` frames evenly spread from the first to the last; a short video repeats some."""
    places = np.linspace(0, len(self.frames) - 1, count).round().astype(int)
    return dataclasses.replace(self, frames=self.frames[places], times=self.times[places])

  def distinct(self) -> np.ndarray:
    """bool [T]: False for a frame that repeats the one before it."""
    return np.diff(self.times, prepend=-np.inf) > 0


def read_video(
  path: str | os.PathLike,
  frames: int = 256,
  size: int = 384,
  *,
  phase: str = "ends",
  limits: Limits = LIMITS,
) -> Video:
  """Decodes `frames` frames, evenly spread in time, as pictures of `size` x `size` pixels.

  `size` must be that of the model's encoder (model.encoder.size). phase "ends" reaches from the
  first to the last frame, "middle" takes the middles of equal intervals. A video with fewer frames
  repeats some. `path` may be a folder of pictures. Raises MediaError (a ValueError) in one sentence
  for what is missing, damaged, or no video.
  """
  timeline = (Scene(os.fspath(path)),)
  return read_timeline(timeline, dict(name="uniform", frames=frames, phase=phase), 1, size, limits)


def read_timeline(
  timeline: Timeline,
  how: Mapping,
  unit: int,
  size: int,
  limits: Limits = LIMITS,
  resize: str = "squash",
) -> Video:
  """The frames of a timeline that the sampling `how` (config.infer.sampling) asks for.

  Their number is a multiple of `unit`. Raises MediaError for bad media, ValueError for a sampling
  that cannot be.
  """
  extent = extent_of(timeline, limits, how)
  count = count_frames(how, extent, unit)
  times = frame_sampling.sample_times(how, count, extent)
  source = frame_sampling.readable(timeline, how)
  frames, real = video.read_timeline(source, times, size, resize=resize, limits=limits)
  return Video(frames, real, extent.duration, timeline[0].media)


def extent_of(
  timeline: Timeline, limits: Limits = LIMITS, how: Mapping | None = None
) -> frame_sampling.Extent:
  """How long a timeline is, for the sampling `how`. Raises MediaError for unreadable media."""
  probes = {media: probe.probe(media, limits) for media in {s.media for s in timeline}}
  for found in probes.values():
    if found.error:
      raise MediaError(found.error)
  return frame_sampling.extent(timeline, probes, how)


def count_frames(how: Mapping, extent: frame_sampling.Extent, unit: int) -> int:
  """Frames to read; errors name config.infer, where this sampling comes from."""
  try:
    return frame_sampling.frame_count(how, extent, unit)
  except ValueError as error:
    raise ValueError(str(error).replace("config.data.", "config.infer.")) from None


def unit_of(model) -> int:
  """The number of frames must be a multiple of this: whole clips, and whole groups where groups
  are neighbours."""
  group = 1 if model.selector.needs_single else model.selector.size
  return math.lcm(model.encoder.clip, group)
