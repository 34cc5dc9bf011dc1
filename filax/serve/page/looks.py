# SPDX-License-Identifier: Apache-2.0
"""What the model sees of a video: its groups of frames, with small pictures of them."""

import asyncio
import collections
from collections.abc import Mapping, Sequence
import dataclasses
import time

import numpy as np
from PIL import Image

from data_pipelines.media.frames import read_timeline
from data_pipelines.sample import Turn
from filax.evals.thumbnails import jpeg_url
from filax.infer.attended import group_attention
from filax.infer.encoded_media import EncodedMedia
from filax.infer.loaded import LoadedModel
from filax.serve.engine import Engine
from filax.serve.media_reading import EncodedVideo, reported
from filax.serve.requests import Medium

MOST_PICTURES = 192  # Of one selection; longer ones show every n-th group.
PICTURE_SIDE = 128  # Pixels, square, as the model sees it.
KEPT = 8  # Videos whose visual tokens stay on the device for the page.


@dataclasses.dataclass(frozen=True)
class LookSettings:
  """What the page's controls say about frames.

  "" and None leave it to the checkpoint.
  """

  selector: str = ""
  dropout: str = ""
  frames: int | None = None


@dataclasses.dataclass(frozen=True)
class SheetFrame:
  """A picture of a contact sheet."""

  seconds: float
  url: str  # JPEG as a data URL.


FrameGroups = list[list[SheetFrame]]  # The frames of each group.


@dataclasses.dataclass(frozen=True, eq=False)
class VideoLook:
  """A video as the model sees it under some settings."""

  loaded: LoadedModel
  media: EncodedMedia
  duration: float  # Seconds of the whole video.
  times: list[list[float]]  # Seconds of the frames of each group.
  chosen: FrameGroups
  uniform: FrameGroups  # As many frames at even times; [] if the model chooses these itself.

  @property
  def selector(self) -> str:
    """The name of the selector."""
    return self.loaded.processor.infer["selector"]["name"]


class VideoLooks:
  """Looks at videos; the last few are kept."""

  def __init__(self, engine: Engine, most: int = KEPT):
    self._engine = engine
    self._most = most
    self._kept: collections.OrderedDict[tuple, VideoLook] = collections.OrderedDict()

  async def look(self, medium: Medium, settings: LookSettings) -> VideoLook:
    """Reads and encodes a video, unless that was done before.

    Raises RequestError for a bad file or setting.
    """
    key = (medium, settings)
    if key not in self._kept:
      self._kept[key] = await asyncio.to_thread(self._read, medium, settings)
      while len(self._kept) > self._most:
        self._kept.popitem(last=False)
    self._kept.move_to_end(key)
    return self._kept[key]

  def _read(self, medium: Medium, settings: LookSettings) -> VideoLook:
    encoded = self._engine.encode_video(medium, settings.selector, settings.dropout)
    with reported(medium):
      return _draw_look(encoded)

  async def measure_attention(
    self, look: VideoLook, turns: Sequence[Turn], answer: str
  ) -> tuple[np.ndarray, float]:
    """(share of the attention on each group [G], seconds that measuring took).

    The shares are of the attention on the video, mean over layers; they sum to 1.
    """
    start = time.perf_counter()
    measuring = self._engine.on_device(group_attention, look.loaded, look.media, turns, answer)
    attention = await asyncio.wrap_future(measuring)
    shares = attention.groups.mean(0)
    total = max(float(shares.sum()), np.finfo(np.float32).tiny)
    return shares / total, time.perf_counter() - start


def _draw_look(encoded: EncodedVideo) -> VideoLook:
  """Reads small pictures of the frames that the model sees."""
  loaded = encoded.loaded
  read = encoded.read
  groups = read.times[encoded.media.groups]
  uniform = np.zeros((0, groups.shape[1]))
  if loaded.model.selector.needs_single:
    places = np.linspace(0, len(read.times) - 1, groups.size)
    uniform = read.times[places.round().astype(int)].reshape(groups.shape)
  shown = [_thinned_groups(times) for times in (groups, uniform)]
  pictures = _small_pictures(encoded, np.unique(np.concatenate(shown)))
  chosen, even = [_frame_groups(times, pictures) for times in shown]
  return VideoLook(loaded, encoded.media, read.duration, groups.tolist(), chosen, even)


def _frame_groups(times: np.ndarray, pictures: Mapping[float, str]) -> FrameGroups:
  """The pictures of groups with times [G K]."""
  groups = []
  for seconds in times.tolist():
    groups.append([SheetFrame(second, pictures[second]) for second in seconds])
  return groups


def _thinned_groups(times: np.ndarray) -> np.ndarray:
  """Evenly chosen groups [g K] of all, within MOST_PICTURES."""
  count = min(len(times), max(1, MOST_PICTURES // times.shape[1]))
  places = np.linspace(0, len(times) - 1, count)
  return times[places.round().astype(int)]


def _small_pictures(encoded: EncodedVideo, times: np.ndarray) -> dict[float, str]:
  """Second -> the frame on screen then, as a data URL."""
  processor = encoded.loaded.processor
  frames, _ = read_timeline(
    encoded.read.timeline,
    times,
    PICTURE_SIDE,
    resize=processor.resize,
    limits=processor.limits,
  )
  pictures = {}
  for second, frame in zip(times.tolist(), frames, strict=True):
    pictures[second] = jpeg_url(Image.fromarray(frame))
  return pictures
