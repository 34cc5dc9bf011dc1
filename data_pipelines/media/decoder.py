# SPDX-License-Identifier: Apache-2.0
"""Decodes one open video by rising time, and turns its frames into RGB pictures.

Pictures are resized while they are converted, by swscale's bicubic with full chroma: 0.2 of 255
away from Pillow's bicubic on average, at a third of its cost. With "pillow" they are Pillow's own,
to the bit, from whole pictures as the decoder's library converts them: what released models were
fed.
"""

import bisect
import collections
from collections.abc import Callable, Iterator
import threading

import av
from av.video.reformatter import Interpolation, VideoReformatter
import numpy as np
from PIL import Image

from data_pipelines.media import pictures
from data_pipelines.media.container import Video
from data_pipelines.media.open import MediaError
from data_pipelines.media.orientation import orientation
from data_pipelines.media.reader import Reader

# Containers round their clocks, some to a millisecond: a frame this much late still counts.
TOLERANCE = 5e-4

_SCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_END = (np.inf, None)  # What follows the last frame.
_local = threading.local()  # A reformatter that two threads share crashes the process.


class Decoder:
  """Decodes one open video by rising time, in seconds since the first frame that is shown.

  It jumps only where a key frame lies between its position and the next wanted time: never much
  worse than reading through, nor than seeking for every frame. The first frame is always decoded
  first: it is where seconds count from, and decoders may need what only the start carries.
  """

  def __init__(self, video: Video, show: Callable[[av.VideoFrame], np.ndarray]):
    self.video, self.show = video, show
    self.reader = Reader(video)
    self.shown, self.ahead = None, None  # (second, frame) on screen, and the one after it.
    self.frames = self._decode()
    self.fixed = not video.keys  # Whether the file is read through, without jumps.
    self.target = self.best = -np.inf  # Ticks: what is wanted, and the latest packet up to it.
    self.recent = collections.deque(maxlen=64)  # Ticks of packets, more than codecs reorder.

  def at(self, t: float):
    """(second, make picture) of the frame on screen at t, which may not fall."""
    t += TOLERANCE
    if self.ahead is None:
      self._advance()
    if (key := self._key(t)) > self.ahead[0]:
      self._seek(t, key)
    self._aim(t)
    while self.ahead[0] <= t:
      self._advance()
    second, frame = self.shown or self.ahead
    return second, lambda: self.show(frame)

  def walk(self):
    while self.ahead is not _END:
      self._advance()
      if self.ahead is not _END:
        second, frame = self.ahead
        yield second, lambda frame=frame: self.show(frame)

  def _key(self, t: float) -> float:
    """The last key frame up to t, as far as the index tells."""
    if self.fixed or self.reader.clock.offset:
      return -np.inf
    lag = self.reader.origin - self.video.origin  # From decoding to display, at a constant rate.
    place = bisect.bisect_right(self.video.keys, self.reader.start + t / self.video.tick - lag)
    if not place:
      return -np.inf
    return (self.video.keys[place - 1] + lag - self.reader.start) * self.video.tick

  def _seek(self, t: float, key: float):
    """Puts a frame up to t next. Landing late (the index holds estimates) means trying earlier."""
    # Formats without edit lists seek by decoding times.
    lag = 0 if self.video.edited else self.reader.origin - self.video.origin
    for point in (key, t - 2, t - 10, t - 60, 0.0):
      ticks = round(self.reader.start - lag + max(0.0, point) / self.video.tick)
      try:
        self.reader.seek(ticks)
      except av.error.FFmpegError:
        if point != key:
          raise
        self.fixed = True  # The file cannot be wound. It is still where it was, before t.
        return
      self.frames, self.shown = self._decode(), None
      self.recent.clear()
      self._aim(t)
      self.ahead = next(self.frames, _END)
      if self.ahead[0] <= t:
        return

  def _advance(self):
    self.shown = self.ahead or self.shown
    self.ahead = next(self.frames, _END)
    if self.ahead is _END:
      if self.shown is None:
        raise MediaError(f"{self.video.name}: has no frame that can be decoded.")
      self._check_end(self.shown[0])

  def _check_end(self, second: float):
    """No sound file shows its last frame before that frame's decoding time."""
    if not self.video.ticks:
      return
    last = (self.video.ticks[-1] - self.reader.start) * self.video.tick
    slack = self.video.tick
    if self.reader.unordered:
      slack += self.reader.depth * self.video.step * self.video.tick
    if second < last - slack:
      raise MediaError(
        f"{self.video.name}: ends at {second:.2f} s, but its index names frames to {last:.2f} s."
      )

  def _aim(self, t: float):
    self.target = self.reader.start + t / self.video.tick
    self.best = max((ticks for ticks in self.recent if ticks <= self.target), default=-np.inf)

  def _hidden(self, ticks: int | None) -> bool:
    """Whether another frame covers this one before the wanted time."""
    if ticks is None:
      return False
    self.recent.append(ticks)
    if ticks <= self.target:
      self.best = max(self.best, ticks)
    return ticks < self.best

  def _decode(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """(second, frame) in order. Frames that are hidden and that no other builds on are skipped."""
    latest = -np.inf
    for ticks, frame in self.reader.frames(self._hidden):
      second = (ticks - self.reader.start) * self.video.tick
      # Frames of one time, or of a clock that stumbles, are shown right after each other.
      latest = second if second > latest else latest + 2 * TOLERANCE
      yield latest, frame


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
  """(width, height) of a frame once it is turned as its file says."""
  return orientation(frame).shown_size(frame.width, frame.height)


def picture(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
  """A decoded frame, turned as its file says, as RGB uint8 [height width 3]."""
  width, height = orientation(frame).shown_size(width, height)
  return _rgb(frame, width=width, height=height, interpolation=_SCALE)


def _rgb(frame: av.VideoFrame, **options) -> np.ndarray:
  if not hasattr(_local, "reformatter"):
    _local.reformatter = VideoReformatter()
  rgb = _local.reformatter.reformat(frame, format="rgb24", threads=1, **options)
  return orientation(frame).apply(rgb.to_ndarray())


def square(frame: av.VideoFrame, size: int, resize: str) -> np.ndarray:
  """A decoded frame as uint8 [size size 3]; `resize` as in `pictures.fit`."""
  if resize == "pillow":
    return pictures.fit(Image.fromarray(_rgb(frame)), size)
  inner = pictures.placed(*shown_size(frame), size, resize)
  return pictures.framed(picture(frame, *inner), size)
