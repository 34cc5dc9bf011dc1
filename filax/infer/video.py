# SPDX-License-Identifier: Apache-2.0
"""Decoded videos, the input of the public functions."""

from collections.abc import Callable, Mapping
import dataclasses
import math
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from data_pipelines.media import frames as media_frames
from data_pipelines.media import probe
from data_pipelines.media.open import LIMITS, Limits, MediaError
from data_pipelines.packing import frame_sampling
from data_pipelines.sample import Scene, Timeline
from filax.models.video_lm import VideoLM


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedVideo:
  """T frames of a video in time order.

  Repeated frames of a short video have equal times.
  """

  frames: np.ndarray = dataclasses.field(repr=False)  # uint8 [T h w 3]
  times: np.ndarray  # float64 [T]: seconds of each frame since the first frame of the video.
  duration: float  # Seconds of the whole video.
  path: str = ""

  def batch(self) -> dict[str, Any]:
    """The arguments of VideoLM.embed.

    model.apply({"params": params}, **video.batch(), method="embed")
    """
    count, height, width, _ = self.frames.shape
    return dict(
      frames=jnp.asarray(self.frames[None]),
      mask=jnp.ones((1, count), bool),
      images=jnp.zeros((1, 0, height, width, 3), jnp.uint8),
    )

  def spread(self, count: int) -> "DecodedVideo":
    """`count` evenly spaced frames; a short video repeats some."""
    positions = np.linspace(0, len(self.frames) - 1, count)
    places = positions.round().astype(int)
    return dataclasses.replace(self, frames=self.frames[places], times=self.times[places])

  def distinct(self) -> np.ndarray:
    """bool [T]: False for a repetition of the previous frame."""
    return np.diff(self.times, prepend=-np.inf) > 0


VideoSource = DecodedVideo | str | os.PathLike[str]  # A decoded video, or a path.


def timeline_of(media: str | os.PathLike[str]) -> Timeline:
  """The timeline of one file, or folder of pictures.

  Raises TypeError for what is no path, such as an array of frames.
  """
  if not isinstance(media, str | bytes | os.PathLike):
    raise TypeError(
      f"A video is a path, or a DecodedVideo, and not {type(media).__name__}. For frames of your "
      "own, make a DecodedVideo(frames, times, duration) with uint8 [T h w 3] and seconds [T]."
    )
  return (Scene(os.fspath(media)),)


def read_video(
  path: str | os.PathLike[str],
  frames: int = 256,
  size: int = 384,
  *,
  phase: str = "ends",
  limits: Limits = LIMITS,
) -> DecodedVideo:
  """Decodes `frames` frames of `size` x `size` pixels, evenly spaced in time.

  `size` must be that of the model's encoder (model.encoder.size). phase "ends" reaches from the
  first to the last frame, "middle" takes the middles of equal intervals. A video with fewer frames
  repeats some. `path` may be a folder of pictures. Raises MediaError (a ValueError) with one
  sentence for a missing or damaged file, or for a file without a video.
  """
  timeline = timeline_of(path)
  sampling = dict(name="uniform", frames=frames, phase=phase)
  extent = timeline_extent(timeline, limits, sampling)
  count = count_frames(sampling, extent, unit=1)
  return decode_extent(timeline, extent, count, sampling, size, limits)


def decode_extent(
  timeline: Timeline,
  extent: frame_sampling.Extent,
  count: int,
  sampling: Mapping,
  size: int,
  limits: Limits = LIMITS,
  resize: str = "squash",
  read: Callable[..., media_frames.Frames] = media_frames.read_frames,
) -> DecodedVideo:
  """`count` frames of a timeline whose extent is known.

  `read` may be the method of a FrameCache.
  """
  times = frame_sampling.sample_times(sampling, count, extent)
  source = frame_sampling.readable(timeline, sampling)
  frames, real_times = media_frames.read_timeline(
    source, times, size, resize=resize, limits=limits, read=read
  )
  return DecodedVideo(frames, real_times, extent.duration, timeline[0].media)


def timeline_extent(
  timeline: Timeline, limits: Limits = LIMITS, sampling: Mapping | None = None
) -> frame_sampling.Extent:
  """The length of a timeline under a sampling.

  Raises MediaError for unreadable media.
  """
  probes = {}
  for media in {scene.media for scene in timeline}:
    probes[media] = probe.probe(media, limits)
  for facts in probes.values():
    if facts.error:
      raise MediaError(facts.error)
  return frame_sampling.extent(timeline, probes, sampling)


def count_frames(sampling: Mapping, extent: frame_sampling.Extent, unit: int) -> int:
  """The number of frames to read; errors name config.infer.sampling."""
  try:
    return frame_sampling.frame_count(sampling, extent, unit)
  except ValueError as error:
    raise ValueError(str(error).replace("config.data.", "config.infer.")) from None


def frame_unit(model: VideoLM) -> int:
  """The unit of the frame count: whole clips and whole groups.

  Groups matter only if they are neighbouring frames; a choosing selector takes any number.
  """
  group = 1 if model.selector.needs_single else model.selector.size
  return math.lcm(model.encoder.clip, group)
