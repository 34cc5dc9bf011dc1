# SPDX-License-Identifier: Apache-2.0
"""What a media name stands for, and how it is opened within a budget of time.

A medium is a file, a folder of pictures, "x.array_record#key", or bytes. Whatever is wrong with it
surfaces as one `MediaError` of one sentence, and nothing here waits without a bound.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import stat
import struct
import time
from typing import BinaryIO

import av
import numpy as np

from data_pipelines import array_records

FOLDER_FPS = 2.0  # Pictures a second of a folder whose name does not end in @<number>fps.
GREY = 127  # Fills the border of a padded picture.
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")  # jpeg png bmp tiff
_COVER = av.stream.Disposition.attached_pic  # The cover of an audio file is no video.
# What the libraries raise about bad content; RuntimeError is ArrayRecord's.
_DAMAGE = (
  av.error.FFmpegError, OSError, ValueError, LookupError, EOFError, RuntimeError, MemoryError)
# Formats of FFmpeg whose files are lists of other files, addresses or devices. What a list names
# was never looked at by `kind`: it may be a pipe that never ends, or somebody else's file.
_LISTS = frozenset((
  "alsa", "applehttp", "avisynth", "concat", "dash", "fbdev", "hls", "image2", "imf", "kmsgrab",
  "lavfi", "rtp", "rtsp", "sap", "sdp", "vapoursynth", "video4linux2", "vobsub",
  "webm_dash_manifest", "x11grab"))

Media = str | os.PathLike | bytes


class MediaError(ValueError):
  """A medium is missing, damaged or too slow. The message is one sentence that names it."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on the work for one medium, so that a bad file cannot stall a run."""

  open_seconds: float = 10.0  # To open a file and find its streams.
  decode_seconds: float = 60.0  # For all packets and frames of one request.
  packets: int = 5_000_000  # Read for one request: a day of video at 60 frames a second.
  image_pixels: int = 24_000_000  # Of one picture; what its copies may take follows from it.


LIMITS = Limits()


def variant(limits: Limits) -> str:
  """What caches add to a medium's identity: the bound on pictures decides at which scale a large
  JPEG is read. "" for the default bound."""
  same = limits.image_pixels == LIMITS.image_pixels
  return "" if same else f"-{limits.image_pixels}px"


class Budget:
  """Counts packets and time of one request against its limits."""

  def __init__(self, media: Media, limits: Limits):
    self._media, self._limits = media, limits
    self._packets, self._deadline = 0, time.monotonic() + limits.decode_seconds

  def spend(self):
    """Books one packet or picture; raises MediaError once the budget is used up."""
    self._packets += 1
    if time.monotonic() > self._deadline:
      raise MediaError(
        f"{name(self._media)}: reading took more than {self._limits.decode_seconds:g} seconds; "
        "raise config.data.decode_seconds if the file is sound.")
    if self._packets > self._limits.packets:
      raise MediaError(f"{name(self._media)}: has more than {self._limits.packets} packets.")


@dataclasses.dataclass(frozen=True)
class Video:
  """An open video and what its index says. Seconds count from the first frame."""

  name: str
  container: av.container.InputContainer
  stream: av.video.stream.VideoStream
  budget: Budget
  start: int  # Ticks of the first frame.
  tick: float  # Seconds.
  count: int = 0  # Frames, 0 where the file has no full index.
  keys: tuple[float, ...] = ()  # Seconds of key frames; exact at a constant frame rate.
  last: float = -np.inf  # Seconds; no sound file shows its last frame earlier.

  def seconds(self, ticks: int) -> float:
    return (ticks - self.start) * self.tick

  def packets(self, *streams) -> Iterator[av.Packet]:
    """Packets of `streams`, by default the video's, from the current position."""
    for packet in self.container.demux(*(streams or (self.stream,))):
      self.budget.spend()
      yield packet


def name(media: Media) -> str:
  """How messages call a medium."""
  return f"<{len(media)} bytes>" if isinstance(media, bytes) else os.fspath(media)


@contextlib.contextmanager
def reported(media: Media):
  """Turns what libraries raise about bad content into a MediaError that names the medium."""
  try:
    yield
  except MediaError:
    raise
  except FileNotFoundError as error:
    raise MediaError(f"{name(media)}: does not exist.") from error
  except av.error.ExitError as error:  # FFmpeg was interrupted by the time limit.
    raise MediaError(
      f"{name(media)}: the file answers too slowly; raise config.data.open_seconds if it is "
      "sound.") from error
  except _DAMAGE as error:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise MediaError(f"{name(media)}: {reason.splitlines()[0].rstrip('.')}.") from error


def kind(media: Media) -> str:
  """folder | image | video. Files are told apart by their first bytes, not by their names.

  Raises MediaError for what does not exist, is empty, or is neither a file nor a folder.
  """
  with reported(media):
    if is_packed(media):
      head = read_bytes(media)[:16]
    else:
      if stat.S_ISDIR(os.stat(media).st_mode):
        return "folder"
      with open_file(media) as file:
        head = file.read(16)
  if not head:
    raise MediaError(f"{name(media)}: is empty.")
  webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
  return "image" if webp or head.startswith(_MAGIC) else "video"


def open_file(media: Media) -> BinaryIO:
  """Opens a regular file that holds something, without waiting for anything.

  Raises MediaError for pipes, sockets and devices, and for files of no bytes. The latter covers the
  files of /proc: they call themselves regular, but reading some of them waits for ever.
  """
  with reported(media):
    if not stat.S_ISREG(os.stat(media).st_mode):  # Opening a device can set it going.
      raise MediaError(f"{name(media)}: is neither a file nor a folder.")
    number = os.open(media, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = os.fdopen(number, "rb")
    try:
      state = os.fstat(number)
      if not stat.S_ISREG(state.st_mode):  # It was exchanged in between.
        raise MediaError(f"{name(media)}: is neither a file nor a folder.")
      if state.st_size == 0:
        raise MediaError(f"{name(media)}: is empty.")
    except BaseException:
      file.close()
      raise
    return file


def is_packed(media: Media) -> bool:
  """Whether the content is bytes, or a record, rather than a file of its own."""
  return isinstance(media, bytes) or array_records.split(media) is not None


def read_bytes(media: Media) -> bytes:
  """The content of bytes or of "x.array_record#key"."""
  if isinstance(media, bytes):
    return media
  with reported(media):
    return array_records.read(*array_records.split(media))


def folder(media: Media) -> list[str]:
  """The pictures of a folder in natural order: frame2 comes before frame10."""
  with reported(media):
    names = [n for n in os.listdir(media) if n.lower().endswith(PICTURES) and n[0] != "."]
  if not names:
    raise MediaError(f"{name(media)}: the folder has no pictures ({' '.join(PICTURES)}).")
  digits = lambda n: [int(p) if p.isdecimal() else p for p in re.split("([0-9]+)", n.lower())]
  return [os.path.join(media, n) for n in sorted(names, key=lambda n: (digits(n), n))]


def folder_fps(media: Media) -> float:
  """Pictures a second of a folder: 3 for a name that ends in "@3fps", else FOLDER_FPS."""
  found = re.search(r"@([0-9]+(?:\.[0-9]+)?)fps$", pathlib.Path(os.fspath(media)).name)
  return (float(found[1]) if found else 0.0) or FOLDER_FPS


def identity(media: Media) -> str:
  """A digest that changes when the content does, going by path, size and time of last change."""
  if isinstance(media, bytes):
    return hashlib.sha256(media).hexdigest()
  with reported(media):
    if packed := array_records.split(media):
      path, record = array_records.locate(*packed)
      facts = [record, _state(path)]
    elif os.path.isdir(media):
      facts = [_state(path) for path in folder(media)]
    else:
      facts = [_state(media)]
  return hashlib.sha256(json.dumps([os.path.abspath(media), facts]).encode()).hexdigest()


def _state(path) -> tuple[str, int, int]:
  state = os.stat(path)
  return os.path.basename(path), state.st_size, state.st_mtime_ns


@contextlib.contextmanager
def open_video(media: Media, limits: Limits = LIMITS) -> Iterator[Video]:
  """Opens a video file or its bytes. MediaError: no video in it, damaged, or past `limits`."""
  # "file:" keeps a name such as concat:a|b from reaching another protocol of FFmpeg; the white
  # lists do the same for what a file names.
  source = io.BytesIO(read_bytes(media)) if is_packed(media) else f"file:{os.fspath(media)}"
  with reported(media), contextlib.ExitStack() as stack:
    _check_screen(media, source, limits)
    container = stack.enter_context(_container(media, source, limits))
    streams = [s for s in container.streams.video if not s.disposition & _COVER]
    if not streams:
      raise MediaError(f"{name(media)}: has no video stream.")
    if streams[0].codec_context is None:
      raise MediaError(f"{name(media)}: has video of an unknown codec.")
    # One thread a video: parallelism comes from reading several, a pool would cost more CPU.
    streams[0].thread_type, streams[0].codec_context.thread_count = "NONE", 1
    yield _indexed(media, container, streams[0], Budget(media, limits))


def _container(media: Media, source: str | BinaryIO, limits: Limits) -> av.container.InputContainer:
  options = {"protocol_whitelist": "file", "format_whitelist": _single_file_formats()}
  try:
    return av.open(
      source, timeout=(limits.open_seconds, limits.decode_seconds), container_options=options)
  except av.error.ArgumentError as error:  # What FFmpeg says of a format beside the white list.
    raise MediaError(
      f"{name(media)}: is a list of other files, which is not followed, or a damaged video."
    ) from error


@functools.cache
def _single_file_formats() -> str:
  """FFmpeg's input formats but for `_LISTS`, as its option format_whitelist has them."""
  names = []
  for name_or_alias in sorted(av.formats_available):
    form = av.format.ContainerFormat(name_or_alias)
    if form.is_input and _LISTS.isdisjoint(form.name.split(",")):
      names.append(form.name)
  return ",".join(names)


def _check_screen(media: Media, source: str | BinaryIO, limits: Limits):
  """Raises MediaError for a GIF whose frames exceed limits.image_pixels: 37 bytes can ask for
  gigabytes, which FFmpeg would take while it opens the file."""
  if isinstance(source, io.BytesIO):
    head = bytes(source.getbuffer()[:10])
  else:
    with open_file(media) as file:
      head = file.read(10)
  if head.startswith(b"GIF8") and len(head) == 10:
    width, height = struct.unpack("<HH", head[6:])
    check_pixels(media, width, height, limits)


def check_pixels(media: Media, width: int, height: int, limits: Limits):
  """Raises MediaError for a picture of more than limits.image_pixels."""
  if width * height > limits.image_pixels:
    raise MediaError(
      f"{name(media)}: has {width} x {height} pixels, more than config.data.image_pixels="
      f"{limits.image_pixels}; raise it if the file is sound.")


def _indexed(media: Media, container, stream, budget: Budget) -> Video:
  """Reads the container's own index. Its times are decoding times: they start before the first
  frame is shown, by a delay that is constant at a constant frame rate."""
  video = Video(
    name(media), container, stream, budget, stream.start_time or 0, float(stream.time_base))
  entries = [e for e in stream.index_entries if not e.is_discard]
  if not entries or len(entries) != stream.frames:  # Fragmented, or key frames only.
    return video
  end = entries[-1].pos + entries[-1].size
  if end > container.size > 0:
    raise MediaError(f"{video.name}: is truncated: it has {container.size} of {end} bytes.")
  first = entries[0].timestamp
  return dataclasses.replace(
    video, count=len(entries), last=video.seconds(entries[-1].timestamp),
    keys=tuple((e.timestamp - first) * video.tick for e in entries if e.is_keyframe))
