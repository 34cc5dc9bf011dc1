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
from data_pipelines.media.open import MediaError, Video

# Containers round their clocks, some to a millisecond: a frame this much late still counts.
TOLERANCE = 5e-4

_SCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_END = (np.inf, None)  # What follows the last frame.
_local = threading.local()  # A reformatter that two threads share crashes the process.


class Decoder:
  """Decodes one open video by rising time.

  It jumps only where a key frame lies between its position and the next wanted time: never much
  worse than reading through, nor than seeking for every frame.
  """

  def __init__(self, video: Video, show: Callable[[av.VideoFrame], np.ndarray]):
    self.video, self.show = video, show
    self.shown, self.ahead = None, None  # (second, frame) on screen, and the one after it.
    self.frames = self._decode()
    self.target = self.best = -np.inf  # Ticks: what is wanted, and the latest packet up to it.
    self.recent = collections.deque(maxlen=64)  # Ticks of packets, more than codecs reorder.

  def at(self, t: float):
    """(second, make picture) of the frame on screen at t, which may not fall."""
    t += TOLERANCE
    position = self.ahead[0] if self.ahead else 0.0
    if (key := self._key(t)) > position:
      self._seek(t, key)
    self._aim(t)
    while self.ahead is None or self.ahead[0] <= t:
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
    place = bisect.bisect_right(self.video.keys, t)
    return self.video.keys[place - 1] if place else -np.inf

  def _seek(self, t: float, key: float):
    """Puts a frame up to t next. Landing late (the index holds estimates) means trying earlier."""
    for point in (key, t - 2, t - 10, t - 60, 0.0):
      ticks = self.video.start + round(max(0.0, point) / self.video.tick)
      self.video.container.seek(ticks, stream=self.video.stream, backward=True)
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
      if self.shown[0] < self.video.last - self.video.tick:
        raise MediaError(
          f"{self.video.name}: ends at {self.shown[0]:.2f} s, but its index names frames to "
          f"{self.video.last:.2f} s.")

  def _aim(self, t: float):
    self.target = self.video.start + t / self.video.tick
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
    codec, latest = self.video.stream.codec_context, -np.inf
    for packet in self.video.packets():
      codec.skip_frame = "NONREF" if self._hidden(packet.pts) else "DEFAULT"
      for frame in packet.decode():
        ticks = frame.dts if frame.pts is None else frame.pts
        if frame.is_corrupt or ticks is None:
          raise MediaError(f"{self.video.name}: is damaged after {max(latest, 0.0):.2f} s.")
        if (second := self.video.seconds(ticks)) > latest:
          latest = second
          yield second, frame


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
  """(width, height) of a frame once it is turned as its file says."""
  return (frame.height, frame.width) if _turns(frame) % 2 else (frame.width, frame.height)


def picture(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
  """A decoded frame, turned as its file says, as RGB uint8 [height width 3]."""
  if _turns(frame) % 2:
    width, height = height, width
  return _rgb(frame, width=width, height=height, interpolation=_SCALE)


def _rgb(frame: av.VideoFrame, **options) -> np.ndarray:
  if not hasattr(_local, "reformatter"):
    _local.reformatter = VideoReformatter()
  rgb = _local.reformatter.reformat(frame, format="rgb24", threads=1, **options)
  return np.rot90(rgb.to_ndarray(), _turns(frame))


def square(frame: av.VideoFrame, size: int, resize: str) -> np.ndarray:
  """A decoded frame as uint8 [size size 3]; `resize` as in `pictures.fit`."""
  if resize == "pillow":
    return pictures.fit(Image.fromarray(_rgb(frame)), size)
  inner = pictures.placed(*shown_size(frame), size, resize)
  return pictures.framed(picture(frame, *inner), size)


def _turns(frame: av.VideoFrame) -> int:
  """Quarter turns counter-clockwise."""
  return round(frame.rotation / 90) % 4
