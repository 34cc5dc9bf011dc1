# SPDX-License-Identifier: Apache-2.0
"""A video that plays: a file in real time, a camera, or a stream from the network."""

from collections.abc import Callable, Generator, Iterator
import contextlib
import dataclasses
import functools
import math
import os
import stat
import time
from urllib.parse import urlsplit, urlunsplit

import av
import numpy as np

from data_pipelines.media import frames as media_frames
from data_pipelines.media.container import is_broadcast, media_kind, open_video
from data_pipelines.media.decoder import TOLERANCE, LazyPicture, VideoDecoder, square
from data_pipelines.media.open import LIMITS, Limits, MediaError, file_path, reported

SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
SILENCE = 15.0  # Seconds without a packet after which a stream counts as broken.
MOST_DAMAGED = 100  # Damaged packets in a row after which a stream counts as broken.
_ENDLESS = 1e9  # Seconds, and packets: a playing file may take any time.
_CLOCKLESS = ("mpjpeg",)  # Formats without times; FFmpeg would guess 25 frames a second.
_CAMERA = "v4l2"  # FFmpeg's format of Linux cameras.


class LiveVideo:
  """A source whose frames come when they are due.

  `source`: a video file, a folder of pictures, a camera (/dev/video0) or a URL of SCHEMES. `size`
  and `resize`: of the pictures, as in data_pipelines.media.frames. `fps`: frames a second, the one
  on screen each time. `speed`: 2 plays twice as fast, 0 does not wait. `damaged` counts packets of
  a stream that could not be decoded.
  """

  def __init__(
    self,
    source: str | os.PathLike,
    size: int,
    *,
    fps: float = 1.0,
    speed: float = 1.0,
    resize: str = "squash",
    limits: Limits = LIMITS,
  ):
    self.source = os.fspath(source)
    self.damaged = 0
    self._damaged_in_a_row = 0
    self._show = functools.partial(square, size=size, resize=resize)
    self._size = size
    self._resize = resize
    self._fps = fps
    self._speed = speed
    self._limits = limits

  @property
  def display_name(self) -> str:
    """The source without what may be secret.

    That is a user with a password, and a query, in which cameras take their key.
    """
    if not is_url(self.source):
      return self.source
    parts = urlsplit(self.source)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))

  @property
  def waits(self) -> bool:
    """Whether the source waits for its reader.

    A camera or a stream does not.
    """
    return not is_url(self.source) and not _is_camera(self.source)

  def frames(self) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (second, picture) of each due frame.

    The iteration ends with the source. Pictures are uint8 [size size 3].
    Seconds count from the first frame. Raises MediaError for a source that cannot be opened, is
    damaged, or falls silent; the frames before are intact.
    """
    begin = None
    due = 0.0
    with contextlib.closing(self._moments()) as moments:
      for second, make_picture in moments:
        if second + TOLERANCE < due:
          continue
        due = (math.floor((second + TOLERANCE) * self._fps) + 1) / self._fps
        begin = begin or time.monotonic()
        if self._speed:
          ahead = second / self._speed - (time.monotonic() - begin)
          time.sleep(max(0.0, ahead))
        yield second, make_picture()

  def _moments(self) -> Generator[LazyPicture, None, None]:
    """All frames in order, each with a function that makes its picture."""
    if not self.waits:
      yield from self._stream()
      return
    limits = dataclasses.replace(self._limits, decode_seconds=_ENDLESS, packets=int(_ENDLESS))
    if media_kind(self.source) == "video":
      with open_video(self.source, limits) as video, reported(self.source):
        yield from VideoDecoder(video, self._show).walk()
      return
    walk = media_frames.walk(self.source, self._size, resize=self._resize, limits=limits)
    for second, picture in walk:
      yield second, functools.partial(np.asarray, picture)

  def _stream(self) -> Iterator[LazyPicture]:
    """The frames of a camera or a stream, whose clock may leap."""
    with reported(self.display_name), self._container() as container:
      if not container.streams.video:
        raise MediaError(f"{self.display_name}: has no video stream.")
      clock = _Clock(leap=SILENCE if self._may_leap(container) else math.inf)
      has_times = container.format.name not in _CLOCKLESS
      for packet in self._packets(container):
        for frame in self._decoded(packet):
          second = clock.second(frame.time if has_times else None)
          yield second, functools.partial(self._show, frame)

  def _container(self) -> av.container.InputContainer:
    options = {"rtsp_transport": "tcp"} if self.source.startswith("rtsp") else {}
    seconds = self._limits.open_seconds
    try:
      return av.open(
        self.source,
        "r",
        format=_CAMERA if _is_camera(self.source) else None,
        timeout=(seconds, SILENCE),
        options=options,
      )
    except av.error.ExitError as error:  # The time is over.
      text = f"{self.display_name}: no video came within {seconds:g} seconds."
      raise MediaError(text) from error

  def _may_leap(self, container: av.container.InputContainer) -> bool:
    """Whether times far ahead are those of a clock that was set.

    In a file that is fetched by HTTP, they are a picture that stays.
    """
    is_fetched = self.source.lower().startswith(("http://", "https://"))
    return not is_fetched or is_broadcast(container)

  def _packets(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets of the video. Raises MediaError when they stay away."""
    try:
      yield from container.demux(container.streams.video[0])
    except av.error.ExitError as error:  # The time is over.
      text = f"{self.display_name}: sent nothing more for {SILENCE:g} seconds."
      raise MediaError(text) from error

  def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
    """The frames of a packet; none of a damaged packet.

    Raises FFmpeg's error if very many are damaged in a row.
    """
    try:
      frames = packet.decode()
    except av.error.InvalidDataError:
      self.damaged += 1
      self._damaged_in_a_row += 1
      if self._damaged_in_a_row > MOST_DAMAGED:
        raise
      return []
    self._damaged_in_a_row = 0
    return frames


class _Clock:
  """Seconds since the first frame, which never fall.

  The times of a stream may leap or be missing. leap: seconds ahead from which on a time is that of
  a clock that was set, as when a camera hears the time: the frame follows the one before.
  """

  def __init__(self, now: Callable[[], float] = time.monotonic, leap: float = math.inf):
    self._now = now
    self._leap = leap
    self._begin = now()
    self._origin: float | None = None  # The stream's time of second 0.
    self._newest = 0.0

  def second(self, stream_time: float | None) -> float:
    """The second of a frame with this time in the stream."""
    if stream_time is None:
      self._newest = max(self._newest, self._now() - self._begin)
      return self._newest
    if self._origin is None:
      self._origin = stream_time
    ahead = stream_time - self._origin - self._newest
    if not 0 <= ahead <= self._leap:
      self._origin = stream_time - self._newest
    self._newest = stream_time - self._origin
    return self._newest


def is_url(source: str) -> bool:
  """Whether a source is a stream from the network."""
  return "://" in source and urlsplit(source).scheme.lower() in SCHEMES


def _is_camera(source: str) -> bool:
  """Whether a source is a device."""
  try:
    return stat.S_ISCHR(os.stat(file_path(source)).st_mode)
  except OSError:
    return False
