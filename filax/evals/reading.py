# SPDX-License-Identifier: Apache-2.0
"""Reads the media of questions in the background."""

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import itertools

import numpy as np

from data_pipelines.media import open as media_lib
from data_pipelines.media import pictures
from data_pipelines.packing import frame_sampling, tiles
from data_pipelines.packing.tiles import Views
from data_pipelines.sample import Timeline
from filax.evals.kit import Example
from filax.infer import video as video_lib
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo

AHEAD = 4  # Media read in advance, in addition to those being read.

DecodedMedium = DecodedVideo | tuple[np.ndarray, Views]
ReadMedium = DecodedMedium | ValueError


def read_ahead(
  loaded: LoadedModel, examples: Sequence[Example], threads: int, blind: bool
) -> Iterator[tuple[list[Example], list[ReadMedium]]]:
  """(questions, their media) for every set of media, read in the background."""
  waiting: collections.deque[tuple[list[Example], list[Future]]] = collections.deque()
  with ThreadPoolExecutor(max(1, threads)) as pool:
    try:
      for _, questions in itertools.groupby(examples, key=lambda example: example.media):
        group = list(questions)
        waiting.append((group, _start_reading(pool, loaded, group[0].media, blind)))
        if len(waiting) > max(1, threads) + AHEAD:
          yield _next_group(waiting)
      while waiting:
        yield _next_group(waiting)
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def _start_reading(
  pool: ThreadPoolExecutor, loaded: LoadedModel, media: Sequence[Timeline], blind: bool
) -> list[Future]:
  alone = len(media) == 1
  return [pool.submit(read_medium, loaded, timeline, blind, alone) for timeline in media]


def _next_group(waiting: collections.deque) -> tuple[list[Example], list[ReadMedium]]:
  group, jobs = waiting.popleft()
  return group, [job.result() for job in jobs]


def read_medium(
  loaded: LoadedModel, timeline: Timeline, blind: bool, alone: bool = True
) -> ReadMedium:
  """A decoded video, a still with its views, or the error.

  `blind`: grey pictures instead. `alone`: the only medium of its question.
  """
  try:
    if timeline[0].kind != "image":
      return grey_video(loaded, timeline) if blind else loaded.read_video(timeline)
    processor = loaded.processor
    picture = pictures.read_image(timeline[0].media, limits=processor.limits)
    if blind:
      picture = np.full_like(picture, media_lib.GREY)
    height, width, _ = picture.shape
    size = loaded.model.encoder.size
    return picture, tiles.views(width, height, processor.data["images"], size, alone)
  except ValueError as error:  # Includes MediaError: it skips a question, not the run.
    return error


def grey_video(loaded: LoadedModel, timeline: Timeline) -> DecodedVideo:
  """Grey frames at the times of the frames that sampling selects."""
  sampling = loaded.processor.sampling
  size = loaded.model.encoder.size
  extent = video_lib.timeline_extent(timeline, loaded.processor.limits, sampling)
  count = video_lib.count_frames(sampling, extent, video_lib.frame_unit(loaded.model))
  times = frame_sampling.sample_times(sampling, count, extent).astype(np.float32)
  frames = np.full((count, size, size, 3), media_lib.GREY, np.uint8)
  return DecodedVideo(frames, times, extent.duration, timeline[0].media)
