# SPDX-License-Identifier: Apache-2.0
"""Reads the media of questions in the background; what cannot be read is handed on as its error."""

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import itertools

import numpy as np

from data_pipelines.media import open as media
from data_pipelines.media import pictures
from data_pipelines.packing import frame_sampling, tiles
from data_pipelines.sample import Timeline
from filax.evals.kit import Example
from filax.infer import video as video_lib

AHEAD = 4  # Media that are read before they are needed, beyond those being read.


def reading(
  model, examples: Sequence[Example], threads: int, blind: bool
) -> Iterator[tuple[list[Example], list]]:
  """(questions, what `read` made of their media) for every set of media, in the background."""
  groups = [list(g) for _, g in itertools.groupby(examples, key=lambda e: e.media)]
  waiting: collections.deque[tuple[list[Example], list[Future]]] = collections.deque()
  with ThreadPoolExecutor(max(1, threads)) as pool:
    try:
      for group in groups:
        shown = group[0].media
        jobs = [pool.submit(read, model, t, blind, len(shown) == 1) for t in shown]
        waiting.append((group, jobs))
        if len(waiting) > max(1, threads) + AHEAD:
          group, jobs = waiting.popleft()
          yield group, [job.result() for job in jobs]
      while waiting:
        group, jobs = waiting.popleft()
        yield group, [job.result() for job in jobs]
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def read(model, timeline: Timeline, blind: bool, alone: bool = True):
  """A Video, or (picture, views) of a still; the error in place of what cannot be read.

  `alone`: no other medium is shown with it."""
  processor = model.processor
  try:
    if timeline[0].kind != "image":
      return blank(model, timeline) if blind else processor.read(timeline, model)
    picture = pictures.read_image(timeline[0].media, limits=processor.limits)
    picture = np.full_like(picture, media.GREY) if blind else picture
    height, width, _ = picture.shape
    return picture, tiles.views(width, height, processor.data["images"], model.encoder.size, alone)
  except ValueError as error:  # MediaError is one. A question is skipped for it, not the run.
    return error


def blank(model, timeline: Timeline) -> video_lib.Video:
  """A video of grey frames, at the times that would have been read."""
  how, size = model.processor.infer["sampling"], model.encoder.size
  extent = video_lib.extent_of(timeline, model.processor.limits, how)
  count = video_lib.count_frames(how, extent, video_lib.unit_of(model))
  times = frame_sampling.sample_times(how, count, extent).astype(np.float32)
  frames = np.full((count, size, size, 3), media.GREY, np.uint8)
  return video_lib.Video(frames, times, extent.duration, timeline[0].media)
