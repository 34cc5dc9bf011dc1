# SPDX-License-Identifier: Apache-2.0
"""Reads the media of questions in the background."""

import collections
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import dataclasses
import os
import time

import numpy as np

from data_pipelines.media import frames as media_frames
from data_pipelines.media import open as media_lib
from data_pipelines.media.cache import FrameCache
from data_pipelines.packing import frame_sampling, tiles
from data_pipelines.packing.tiles import Views
from data_pipelines.sample import Scene, Timeline
from filax.evals import context
from filax.evals.kit import Example
from filax.infer import encode_long
from filax.infer import video as video_lib
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo

AHEAD = 4  # Sets of media read in advance, in addition to those being read.
LONG_BYTES = encode_long.LONG_BYTES
WAITING_BYTES = 4 << 30  # Bound on the frames that wait, from which their number follows.


@dataclasses.dataclass(frozen=True)
class LongVideo:
  """A video that is read while it is encoded."""

  timeline: Timeline


DecodedMedium = DecodedVideo | LongVideo | tuple[np.ndarray, Views]
ReadMedium = DecodedMedium | ValueError


@dataclasses.dataclass(frozen=True, eq=False)
class ReadGroup:
  """The questions about one set of media, and the media."""

  examples: list[Example]
  media: list[ReadMedium]
  seconds: float  # Seconds of decoding, summed over threads.


@dataclasses.dataclass(frozen=True)
class MediaReader:
  """How media are read for a model."""

  loaded: LoadedModel
  max_new_tokens: int
  blind: bool
  threads: int
  ahead: int = AHEAD
  read: Callable[..., media_frames.Frames] = media_frames.read_frames  # Or that of a cache.

  def read_ahead(self, groups: Sequence[Sequence[Example]]) -> Iterator[ReadGroup]:
    """Reads sets of media in the background, in order."""
    waiting: collections.deque[tuple[Sequence[Example], list[Future]]] = collections.deque()
    if self.ahead < 1:
      yield from map(self._read_now, groups)
      return
    limit = self._most_waiting()
    with ThreadPoolExecutor(self.threads) as pool:
      try:
        for group in groups:
          waiting.append((group, self._start_reading(pool, group[0].media)))
          if len(waiting) > limit:
            yield _next_group(waiting)
        while waiting:
          yield _next_group(waiting)
      finally:
        pool.shutdown(wait=False, cancel_futures=True)

  def _most_waiting(self) -> int:
    """Sets of media in memory, bounded by WAITING_BYTES."""
    frames = self.loaded.processor.sampling.get("frames") or 1
    fitting = WAITING_BYTES // frames_bytes(self.loaded, frames)
    return max(1, min(self.threads + self.ahead, fitting))

  def _read_now(self, group: Sequence[Example]) -> ReadGroup:
    media = group[0].media
    results = [self._timed_read(timeline, len(media) == 1) for timeline in media]
    return _read_group(group, results)

  def _start_reading(self, pool: ThreadPoolExecutor, media: Sequence[Timeline]) -> list[Future]:
    is_alone = len(media) == 1
    return [pool.submit(self._timed_read, timeline, is_alone) for timeline in media]

  def _timed_read(self, timeline: Timeline, is_alone: bool) -> tuple[ReadMedium, float]:
    """A medium, and the seconds of reading it."""
    start = time.perf_counter()
    medium = self.read_medium(timeline, is_alone)
    return medium, time.perf_counter() - start

  def read_medium(self, timeline: Timeline, is_alone: bool = True) -> ReadMedium:
    """A decoded video, a still with its views, or the error.

    is_alone: the only medium of its question.
    """
    try:
      if timeline[0].kind == "image":
        return self._read_picture(timeline[0], is_alone)
      return self._read_video(timeline)
    except ValueError as error:  # Includes MediaError: it skips a question, not the run.
      return error

  def _read_picture(self, scene: Scene, is_alone: bool) -> tuple[np.ndarray, Views]:
    processor = self.loaded.processor
    picture = media_frames.read_picture(scene, processor.limits)
    if self.blind:
      picture = np.full_like(picture, media_lib.GREY)
    height, width, _ = picture.shape
    size = self.loaded.model.encoder.size
    return picture, tiles.views(width, height, processor.data["images"], size, is_alone)

  def _read_video(self, timeline: Timeline) -> DecodedVideo | LongVideo:
    """The frames that sampling selects; grey ones if blind.

    Raises ValueError, before decoding, for more frames than the context holds.
    """
    model = self.loaded.model
    processor = self.loaded.processor
    sampling = processor.sampling
    extent = video_lib.timeline_extent(timeline, processor.limits, sampling)
    count = video_lib.count_frames(sampling, extent, video_lib.frame_unit(model))
    context.check_frames(model, count, self.max_new_tokens)
    if self.blind:
      return grey_video(self.loaded, timeline, extent, count)
    if frames_bytes(self.loaded, count) > LONG_BYTES and encode_long.can_stream(model):
      return LongVideo(timeline)
    return video_lib.decode_extent(
      timeline,
      extent,
      count,
      sampling,
      model.encoder.size,
      processor.limits,
      processor.resize,
      self.read,
    )


def frame_reader(
  loaded: LoadedModel, folder: str | os.PathLike
) -> Callable[..., media_frames.Frames]:
  """A reader of frames that keeps decoded ones in a folder.

  With "", it only reads the files.
  """
  if not os.fspath(folder):
    return media_frames.read_frames
  return FrameCache(folder, loaded.model.encoder.size).read_frames


def _next_group(waiting: collections.deque) -> ReadGroup:
  group, jobs = waiting.popleft()
  return _read_group(group, [job.result() for job in jobs])


def _read_group(group: Sequence[Example], results: Sequence[tuple[ReadMedium, float]]) -> ReadGroup:
  media = [medium for medium, _ in results]
  seconds = sum(seconds for _, seconds in results)
  return ReadGroup(list(group), media, seconds)


def frames_bytes(loaded: LoadedModel, frames: int) -> int:
  """Bytes of decoded frames."""
  return frames * loaded.model.encoder.size**2 * 3


def grey_video(
  loaded: LoadedModel, timeline: Timeline, extent: frame_sampling.Extent, count: int
) -> DecodedVideo:
  """Grey frames at the times of the frames that sampling selects."""
  size = loaded.model.encoder.size
  times = frame_sampling.sample_times(loaded.processor.sampling, count, extent)
  frames = np.full((count, size, size, 3), media_lib.GREY, np.uint8)
  return DecodedVideo(frames, times.astype(np.float32), extent.duration, timeline[0].media)
