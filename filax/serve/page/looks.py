# SPDX-License-Identifier: Apache-2.0
"""What the model sees of a video: its groups of frames, with small pictures of them."""

import asyncio
import collections
from collections.abc import Sequence
import dataclasses
import time

import numpy as np
from PIL import Image

from data_pipelines.media.frames import read_timeline
from data_pipelines.packing import frame_sampling
from data_pipelines.sample import Scene, Turn
from filax.evals.thumbnails import jpeg_url
from filax.infer import encode_long
from filax.infer.attended import group_attention
from filax.infer.chat import Conversation
from filax.infer.encoded_media import EncodedMedia
from filax.infer.loaded import LoadedModel
from filax.serve.engine import Engine

MOST_PICTURES = 192  # Of one selection; longer ones show every n-th group.
PICTURE_SIDE = 128  # Pixels, square, as the model sees it.
KEPT = 8  # Videos whose visual tokens stay on the device for the page.


@dataclasses.dataclass(frozen=True)
class LookSettings:
  """What the page's controls say about frames; "" and None leave it to the checkpoint."""

  selector: str = ""
  dropout: str = ""
  frames: int | None = None

  def adjust(self, loaded: LoadedModel) -> LoadedModel:
    """The model under these settings. Raises ValueError for one that does not fit it."""
    if self.selector:
      loaded = loaded.with_selector(self.selector)
    return loaded.adjusted(frames=self.frames, dropout=self.dropout)


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
    self._kept: collections.OrderedDict[tuple[str, LookSettings], VideoLook] = (
      collections.OrderedDict()
    )

  async def look(self, path: str, settings: LookSettings) -> VideoLook:
    """Reads and encodes a video, unless it is kept.

    Raises ValueError with one sentence for a bad file or setting.
    """
    key = (path, settings)
    if key not in self._kept:
      self._kept[key] = await self._read(path, settings)
      while len(self._kept) > self._most:
        self._kept.popitem(last=False)
    self._kept.move_to_end(key)
    return self._kept[key]

  async def _read(self, path: str, settings: LookSettings) -> VideoLook:
    loaded = settings.adjust(self._engine.session)
    source = path
    if not encode_long.can_stream(loaded.model):
      source = await asyncio.to_thread(loaded.read_video, path)
    encoding = self._engine.on_device(Conversation, loaded, source)
    talk = await asyncio.wrap_future(encoding)
    return await asyncio.to_thread(_draw_look, loaded, talk, path)

  async def attention(
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


def _draw_look(loaded: LoadedModel, talk: Conversation, path: str) -> VideoLook:
  """Reads small pictures of the frames that a conversation is about."""
  video, media = talk.video_and_media()
  groups = np.asarray(talk.scene_times)
  uniform = np.zeros((0, groups.shape[1]))
  if loaded.model.selector.needs_single:
    places = np.linspace(0, len(video.times) - 1, groups.size)
    uniform = video.times[places.round().astype(int)].reshape(groups.shape)
  shown = [_thinned_groups(times) for times in (groups, uniform)]
  wanted = np.unique(np.concatenate([times.reshape(-1) for times in shown]))
  pictures = _small_pictures(loaded, path, wanted)
  rows = []
  for times in shown:
    rows.append(
      [[SheetFrame(float(second), pictures[float(second)]) for second in group] for group in times]
    )
  return VideoLook(loaded, media, video.duration, groups.tolist(), *rows)


def _thinned_groups(times: np.ndarray) -> np.ndarray:
  """Evenly chosen groups [g K] of all [G K], so that MOST_PICTURES suffice."""
  count = min(len(times), max(1, MOST_PICTURES // times.shape[1]))
  places = np.linspace(0, len(times) - 1, count)
  return times[places.round().astype(int)]


def _small_pictures(loaded: LoadedModel, path: str, times: np.ndarray) -> dict[float, str]:
  """Second -> a JPEG of the frame on screen then, as a data URL."""
  processor = loaded.processor
  timeline = frame_sampling.readable((Scene(path),), processor.sampling)
  frames, _ = read_timeline(
    timeline, times, PICTURE_SIDE, resize=processor.resize, limits=processor.limits
  )
  pictures = {}
  for second, frame in zip(times, frames, strict=True):
    pictures[float(second)] = jpeg_url(Image.fromarray(frame))
  return pictures
