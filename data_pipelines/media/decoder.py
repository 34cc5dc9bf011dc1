# SPDX-License-Identifier: Apache-2.0
"""Decodes an open video into RGB pictures at ascending times.

Pictures are resized while they are converted, by swscale's bicubic filter with full chroma. A value
then differs by 0.2 of 255 on average from that of Pillow's bicubic filter, at a third of the cost.
With resize "pillow", the picture is converted first and then resized by Pillow. The result is bit
for bit the preprocessing of released models.
"""

import bisect
import collections
from collections.abc import Callable, Iterator, Sequence
import functools
import threading

import av
from av.video.reformatter import Interpolation, VideoReformatter
import numpy as np
from PIL import Image

from data_pipelines.media import pictures
from data_pipelines.media.container import OpenVideo
from data_pipelines.media.open import MediaError
from data_pipelines.media.orientation import orientation
from data_pipelines.media.reader import PacketReader

# Containers round their time stamps, some of them to a millisecond. A frame counts as shown at t if
# its time stamp is later by at most this number of seconds.
TOLERANCE = 5e-4

_SCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_JUMP = 5.0  # Seconds between wanted times, from which on a file's cues are read.
_BRIGHTNESS_AND_COLOURS = ("yuv", "nv12", "nv21", "p010")  # How such pixel formats begin.
Moment = tuple[float, av.VideoFrame | None]  # (second, the frame that appears then).
_BEGIN: Moment = (-np.inf, None)  # The moment before the first frame.
_END: Moment = (np.inf, None)  # The moment after the last frame.
LazyPicture = tuple[float, Callable[[], np.ndarray]]  # (second, function that makes the picture).
_local = threading.local()  # A reformatter shared by two threads crashes the process.


class VideoDecoder:
  """Decodes an open video at ascending times.

  Times are seconds since the first shown frame. The decoder seeks only if there is a key frame
  between its position and the next wanted time. So it is never much slower than reading the whole
  file, and never much slower than seeking for every frame. The first frame is always decoded first,
  because it is second 0, and because decoders may need headers that only the start contains.
  """

  def __init__(self, video: OpenVideo, show: Callable[[av.VideoFrame], np.ndarray]):
    self.video = video
    self.show = show
    self.reader = PacketReader(video)
    self.on_screen: Moment | None = None
    self.ahead = _BEGIN  # The moment after the one on screen.
    self.frames = self._decode()
    self.keys = video.keys  # Times of key frames in ticks, ascending.
    self.fixed = not self.keys  # Whether the file is read sequentially, without seeks.
    self.target = -np.inf  # The wanted time, in ticks.
    self.best = -np.inf  # Ticks of the latest packet up to `target`.
    # Ticks of the last packets; more than a codec reorders.
    self.recent: collections.deque[int] = collections.deque(maxlen=64)
    self.wanted: Sequence[float] = ()  # All times of `frame_at`, if they are known.
    self.shown: ShownFrames | None = None  # The frames at these times, if the index tells them.
    self.skipped = -np.inf  # Ticks of the latest frame that was not decoded.

  def expect(self, times: Sequence[float]) -> None:
    """Announces the times of all calls of `frame_at`, before the first one.

    Frames that are on screen at none of these times need not be decoded.
    """
    self.wanted = times
    jumps = np.diff(times, prepend=0.0)
    if self.fixed and len(jumps) and jumps.max() > _JUMP:
      self.keys = self.video.cues()
      self.fixed = not self.keys

  def frame_at(self, t: float) -> LazyPicture:
    """The frame on screen at t; t must not decrease between calls."""
    t += TOLERANCE
    if self.ahead is _BEGIN:
      self._advance()
      self.shown = self._shown_frames()
    key = self._key(t)
    if key > self.ahead[0]:
      self._seek(t, key)
    self._read_until(t)
    second, frame = self.on_screen or self.ahead
    if self._is_misled(second):
      self.shown = None
      self._seek(t, key)
      self._read_until(t)
      second, frame = self.on_screen or self.ahead
    if frame is None:
      raise self.reader.no_frame()
    return second, functools.partial(self.show, frame)

  def walk(self) -> Iterator[LazyPicture]:
    """All remaining frames, in order."""
    while self.ahead is not _END:
      self._advance()
      second, frame = self.ahead
      if frame is not None:
        yield second, functools.partial(self.show, frame)

  def _read_until(self, t: float) -> None:
    """Decodes until the frame after the one shown at t."""
    self._aim(t)
    while self.ahead[0] <= t:
      self._advance()

  def _shown_frames(self) -> "ShownFrames | None":
    """The frames that the wanted times show.

    None if no times are wanted, or if the file's index does not tell the times of all frames.
    """
    reader = self.reader
    if not self.wanted or self.fixed or reader.unordered or reader.clock.offset:
      return None
    first = bisect.bisect_left(self.video.ticks, reader.start - self._lag)
    if first == len(self.video.ticks):
      return None
    targets = reader.start + (np.array(self.wanted) + TOLERANCE) / self.video.tick
    return ShownFrames(self.video.ticks, first, self._lag, targets.tolist())

  def _is_misled(self, second: float) -> bool:
    """Whether frames have other times than the index says.

    If so, wanted frames may have been left out.
    """
    if self.shown is None:
      return False
    return self.shown.is_wrong or second != self._second(self.shown.tick(self.target))

  def _key(self, t: float) -> float:
    """Seconds of the last indexed key frame up to t, or -inf."""
    if self.fixed or self.reader.clock.offset:
      return -np.inf
    lag = self._lag
    ticks = self.reader.start + t / self.video.tick - lag
    place = bisect.bisect_right(self.keys, ticks)
    if not place:
      return -np.inf
    key = self.keys[place - 1] + lag
    return self._second(key)

  @property
  def _lag(self) -> int:
    """Ticks from indexed times to display, at a constant rate."""
    if not self.video.ticks:
      return 0  # Cues have display times.
    return self.reader.origin - self.video.origin

  def _second(self, ticks: float) -> float:
    """Converts ticks to seconds since the first frame."""
    return (ticks - self.reader.start) * self.video.tick

  def _seek(self, t: float, key: float):
    """Seeks to a frame that is not later than t.

    An index may contain estimates. If a seek lands too late, it is repeated for an earlier time.
    """
    lag = 0 if self.video.edited else self._lag  # Without edit lists, seeks use decoding times.
    for point in (key, t - 2, t - 10, t - 60, 0.0):
      ticks = round(self.reader.start - lag + max(0.0, point) / self.video.tick)
      try:
        self.reader.seek(ticks)
      except av.error.FFmpegError:
        if point != key:
          raise
        self.fixed = True  # The file is not seekable. Its position is unchanged, before t.
        return
      self.frames = self._decode()
      self.on_screen = None
      self.recent.clear()
      self._aim(t)
      self.ahead = next(self.frames, _END)
      if self.ahead[0] <= t:
        return

  def _advance(self):
    if self.ahead is not _BEGIN:
      self.on_screen = self.ahead
    self.ahead = next(self.frames, _END)
    if self.ahead is _END:
      if self.on_screen is None:
        raise self.reader.no_frame()
      self._check_end(self.on_screen[0])

  def _check_end(self, second: float):
    """Raises MediaError if the frames end before the index does.

    An intact file never shows its last frame before the decoding time of that frame.
    """
    if not self.video.ticks:
      return
    second = max(second, self._second(self.skipped))
    last = self._second(self.video.ticks[-1])
    slack = self.video.tick
    if self.reader.unordered:
      slack += self.reader.depth * self.video.frame_ticks * self.video.tick
    if second < last - slack:
      raise MediaError(
        f"{self.video.name}: ends at {second:.2f} s, but its index names frames to {last:.2f} s."
      )

  def _aim(self, t: float):
    self.target = self.reader.start + t / self.video.tick
    self.best = -np.inf
    for ticks in self.recent:
      if ticks <= self.target:
        self.best = max(self.best, ticks)

  def _hidden(self, ticks: int | None) -> bool:
    """Whether a later frame replaces this one before the wanted time."""
    if ticks is None:
      return False
    self.recent.append(ticks)
    if ticks <= self.target:
      self.best = max(self.best, ticks)
    is_hidden = ticks < self.best
    if self.shown is not None and not is_hidden:
      is_hidden = self.shown.is_unwanted(ticks)
    if is_hidden:
      self.skipped = max(self.skipped, ticks)
    return is_hidden

  def _decode(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yields (second, frame) in order.

    Hidden frames on which no other frame depends are not decoded.
    """
    latest = -np.inf
    for ticks, frame in self.reader.frames(self._hidden):
      second = self._second(ticks)
      # If time stamps are equal or go backwards, frames are shown right after each other.
      latest = second if second > latest else latest + 2 * TOLERANCE
      yield latest, frame


class ShownFrames:
  """The frames of a file that are on screen at wanted times.

  ticks: the ticks of all frames in the index, ascending. A frame is displayed `lag` ticks later,
  and frame `first` is the first one that is displayed. targets: the wanted times in ticks.
  """

  def __init__(self, ticks: Sequence[int], first: int, lag: int, targets: Sequence[float]):
    self._ticks = ticks
    self._first = first
    self._lag = lag
    self._wanted = frozenset(map(self.tick, targets))
    self.is_wrong = False  # Whether a frame has a time that the index does not tell.

  def tick(self, target: float) -> int:
    """The display time of the frame on screen at a target."""
    place = bisect.bisect_right(self._ticks, target - self._lag) - 1
    return self._ticks[max(place, self._first)] + self._lag

  def is_unwanted(self, ticks: int) -> bool:
    """Whether a frame is on screen at no wanted time.

    ticks: the display time of the frame.
    """
    place = bisect.bisect_left(self._ticks, ticks - self._lag)
    if place == len(self._ticks) or self._ticks[place] != ticks - self._lag:
      self.is_wrong = True
    return not self.is_wrong and ticks not in self._wanted


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
  """(width, height) of a frame after the rotation of its file."""
  return orientation(frame).shown_size(frame.width, frame.height)


def picture(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
  """A decoded frame after rotation, as RGB uint8 [height width 3]."""
  if frame.interlaced_frame:
    # swscale would resize the two fields apart: lines of different times, and half of the detail.
    full = Image.fromarray(_rgb(frame))
    return np.asarray(full.resize((width, height), Image.Resampling.BICUBIC))
  stored_width, stored_height = orientation(frame).shown_size(width, height)
  # For these pixel formats, swscale computes the same values for planes as for pixels, and its
  # vector code for planes is three times as fast.
  is_planar = frame.format.name.startswith(_BRIGHTNESS_AND_COLOURS)
  return _rgb(
    frame,
    format="gbrp" if is_planar else "rgb24",
    width=stored_width,
    height=stored_height,
    interpolation=_SCALE,
  )


def _rgb(frame: av.VideoFrame, format: str = "rgb24", **options) -> np.ndarray:
  """A frame after rotation, as uint8 [h w 3].

  format: of the conversion. options: others of `VideoReformatter.reformat`.
  """
  if not hasattr(_local, "reformatter"):
    _local.reformatter = VideoReformatter()
  rgb = _local.reformatter.reformat(frame, format=format, threads=1, **options)
  return orientation(frame).apply(rgb.to_ndarray())


def square(frame: av.VideoFrame, size: int, resize: str) -> np.ndarray:
  """A decoded frame as uint8 [size size 3]; `resize` as in `pictures.fit`."""
  if resize == "pillow":
    return pictures.fit(Image.fromarray(_rgb(frame)), size)
  width, height = shown_size(frame)
  inner_width, inner_height = pictures.inner_size(width, height, size, resize)
  return pictures.framed(picture(frame, inner_width, inner_height), size)


def full_picture(frame: av.VideoFrame) -> np.ndarray:
  """A decoded frame as uint8 [h w 3], not resized."""
  return picture(frame, *shown_size(frame))
