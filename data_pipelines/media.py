# SPDX-License-Identifier: Apache-2.0
"""What a media name stands for, and how it is opened within a budget of time.

A medium is a file, a folder of pictures, "file.array_record#key", or bytes. Whatever is wrong with
it surfaces as one `MediaError` with one sentence; nothing here waits without a bound.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
import re
import stat
import time

import av
import numpy as np
from PIL import Image, ImageOps

FOLDER_FPS = 2.0  # Pictures a second of a folder whose name does not end in @<number>fps.
GREY = 127  # Fills the border of a padded picture.
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
_DAMAGE = (av.error.FFmpegError, OSError, ValueError, IndexError, KeyError, SyntaxError, EOFError,
           Image.DecompressionBombError)

Media = str | os.PathLike | bytes


class MediaError(ValueError):
  """A medium is missing, damaged or too slow. The message is one sentence that names it."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on the work for one medium, so that a bad file cannot stall a run.

  Seconds of wall time for opening and for decoding one request, and packets read from the file.
  """

  open_seconds: float = 10.0
  decode_seconds: float = 60.0
  packets: int = 5_000_000  # A day of video at 60 frames a second.


@dataclasses.dataclass
class Video:
  """An open video. Seconds count from its first frame; `keys` are estimates (see `_index`)."""

  name: str
  container: av.container.InputContainer
  stream: av.video.stream.VideoStream
  start: int  # Ticks of the first frame.
  tick: float  # Seconds.
  keys: tuple[float, ...]  # Seconds of key frames; () where the file has no index.
  count: int  # Frames by the index, 0 where it has none.
  last: float  # By the index, a frame is shown this late or later; -inf where it has none.
  limits: Limits

  def packets(self, streams=None) -> Iterator[av.Packet]:
    """Packets of the video (or of `streams`) within what is left of the budget."""
    for packet in self.container.demux(streams or self.stream):
      self.spend()
      yield packet

  def spend(self):
    self._packets = getattr(self, "_packets", 0) + 1
    self._deadline = getattr(self, "_deadline", None) or time.monotonic() + self.limits.decode_seconds
    if time.monotonic() > self._deadline:
      raise MediaError(
        f"{self.name}: reading took more than {self.limits.decode_seconds:g} seconds; raise "
        "config.data.decode_seconds if the file is sound.")
    if self._packets > self.limits.packets:
      raise MediaError(f"{self.name}: more than {self.limits.packets} packets were read.")


def name(media: Media) -> str:
  """How messages call a medium."""
  return f"<{len(media)} bytes>" if isinstance(media, bytes) else os.fspath(media)


@contextlib.contextmanager
def reported(media: Media):
  """Turns what libraries raise about a bad file into a MediaError that names it."""
  try:
    yield
  except MediaError:
    raise
  except av.error.ExitError as error:
    raise MediaError(
      f"{name(media)}: the file answered too slowly; raise config.data.open_seconds if it is "
      "sound.") from error
  except _DAMAGE as error:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise MediaError(f"{name(media)}: {reason.rstrip('.')}.") from error


def kind(media: Media) -> str:
  """folder | image | video. Files are told apart by their first bytes, not by their names.

  Raises MediaError for what does not exist, is empty, or is neither a file nor a folder.
  """
  if not isinstance(media, bytes) and not _record_parts(media):
    with reported(media):
      mode = os.stat(media).st_mode
    if stat.S_ISDIR(mode):
      return "folder"
    if not stat.S_ISREG(mode):  # Opening a pipe would wait for ever.
      raise MediaError(f"{name(media)}: is neither a file nor a folder.")
    with reported(media), open(media, "rb") as file:
      head = file.read(16)
  else:
    head = read_bytes(media)[:16]
  if not head:
    raise MediaError(f"{name(media)}: the file is empty.")
  webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
  return "image" if webp or head.startswith(_MAGIC) else "video"


def folder(media: Media) -> list[str]:
  """The pictures of a folder in natural order: frame2 comes before frame10."""
  with reported(media):
    names = [n for n in os.listdir(media) if n.lower().endswith(PICTURES) and n[0] != "."]
  if not names:
    raise MediaError(f"{name(media)}: the folder has no pictures ({', '.join(PICTURES)}).")
  parts = lambda n: [int(p) if p.isdigit() else p for p in re.split(r"([0-9]+)", n.lower())]
  return [os.path.join(media, n) for n in sorted(names, key=lambda n: (parts(n), n))]


def folder_fps(media: Media) -> float:
  """Pictures a second of a folder: 3 for a name that ends in "@3fps", else FOLDER_FPS."""
  found = re.search(r"@([0-9]+(?:\.[0-9]+)?)fps$", pathlib.Path(media).name)
  return float(found[1]) if found and float(found[1]) else FOLDER_FPS


def identity(media: Media) -> str:
  """A digest that changes when the content may have: of path, size and time of last change."""
  if isinstance(media, bytes):
    return hashlib.sha256(media).hexdigest()
  with reported(media):
    if parts := _record_parts(media):
      shard, record = _record(*parts)
      facts = [os.path.abspath(shard), record, *_state(shard)]
    elif os.path.isdir(media):
      facts = [os.path.abspath(media), *((os.path.basename(n), *_state(n)) for n in folder(media))]
    else:
      facts = [os.path.abspath(media), *_state(media)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _state(path) -> tuple[int, int]:
  state = os.stat(path)
  return state.st_size, state.st_mtime_ns


def read_image(media: Media, size: int | None = None, *, resize: str = "squash") -> np.ndarray:
  """A picture as uint8 [h w 3]: its own size, or size x size (see `fit`).

  EXIF orientation is honoured, transparency is dropped, an animation gives its first frame.
  """
  source = io.BytesIO(read_bytes(media)) if is_packed(media) else media
  if source is media:
    kind(media)  # Names what is missing, empty or a pipe.
  with reported(media):
    with Image.open(source) as picture:
      picture = ImageOps.exif_transpose(picture).convert("RGB")
    return np.asarray(picture) if size is None else fit(picture, size, resize)


def fit(picture: Image.Image, size: int, resize: str = "squash") -> np.ndarray:
  """An RGB picture as uint8 [size size 3], Pillow's antialiased bicubic.

  "squash" changes the aspect ratio; "pad" keeps it and fills the rest with GREY.
  """
  (w, h), (left, top) = placed(*picture.size, size, resize)
  small = np.asarray(picture.resize((w, h), Image.Resampling.BICUBIC))
  return framed(small, size, left, top)


def placed(w: int, h: int, size: int, resize: str) -> tuple[tuple[int, int], tuple[int, int]]:
  """Where a w x h picture goes in a square of `size`: its (width, height) and its (left, top)."""
  if resize == "squash":
    return (size, size), (0, 0)
  if resize != "pad":
    raise ValueError(f"resize is {resize!r}, but a picture can be resized by squash or pad.")
  w, h = (max(1, round(side * size / max(w, h))) for side in (w, h))
  return (w, h), ((size - w) // 2, (size - h) // 2)


def framed(small: np.ndarray, size: int, left: int, top: int) -> np.ndarray:
  """`small` [h w 3] at (left, top) of a grey square [size size 3]."""
  if small.shape[:2] == (size, size):
    return small
  square = np.full((size, size, 3), GREY, np.uint8)
  square[top:top + small.shape[0], left:left + small.shape[1]] = small
  return square


def is_packed(media: Media) -> bool:
  """Whether the content is bytes rather than a file of its own."""
  return isinstance(media, bytes) or _record_parts(media) is not None


def read_bytes(media: Media) -> bytes:
  """The content of bytes or of "file.array_record#key"."""
  if isinstance(media, bytes):
    return media
  with reported(media):
    shard, record = _record(*_record_parts(media))
    data = _reader(shard, *_state(shard)).read([record])[0]
    return media_of(data) if _keys(_record_parts(media)[0]) else data


@contextlib.contextmanager
def open_video(media: Media, limits: Limits = Limits()) -> Iterator[Video]:
  """Opens a video file (or its bytes) for reading; raises MediaError within `limits`."""
  # "file:" keeps a name such as concat:a|b from reaching another protocol of FFmpeg; the white
  # list does the same for what a playlist names.
  source = io.BytesIO(read_bytes(media)) if is_packed(media) else f"file:{os.fspath(media)}"
  with reported(media), contextlib.ExitStack() as stack:
    container = stack.enter_context(av.open(
      source, timeout=(limits.open_seconds, limits.decode_seconds),
      container_options={"protocol_whitelist": "file"}))
    streams = [s for s in container.streams.video if not s.disposition & _COVER]
    if not streams:
      raise MediaError(f"{name(media)}: has no video stream.")
    stream = streams[0]
    # One thread a video: parallelism comes from reading several (a pool costs more CPU).
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    yield _index(media, container, stream, limits)


_COVER = av.stream.Disposition.attached_pic  # The cover of an audio file is no video.


def _index(media: Media, container, stream, limits: Limits) -> Video:
  """Reads the container's own index. Its times are decoding times, which run ahead of the shown
  ones by a constant in files of constant rate: `keys` are exact there, close elsewhere."""
  entries = [e for e in stream.index_entries if not e.is_discard]
  start, tick = stream.start_time or 0, float(stream.time_base)
  if not entries or len(entries) != stream.frames:  # Fragmented, or an index of key frames only.
    return Video(name(media), container, stream, start, tick, (), 0, -np.inf, limits)
  end, size = max(e.pos + e.size for e in entries[-1:]), container.size
  if end > size > 0:
    raise MediaError(f"{name(media)}: is truncated: it names {end} bytes but has {size}.")
  shift = start - entries[0].timestamp
  keys = tuple((e.timestamp + shift - start) * tick for e in entries if e.is_keyframe)
  last = (entries[-1].timestamp - start) * tick
  return Video(name(media), container, stream, start, tick, keys, len(entries), last, limits)


# ArrayRecord: a file of records, or the shards of a data set that `builders` wrote.

def _record_parts(media) -> tuple[str, str] | None:
  """("x.array_record", "key") of "x.array_record#key", else None."""
  found = re.fullmatch(r"(.+\.array_record[^#/]*)#(.+)", os.fspath(media))
  return (found[1], found[2]) if found else None


def shards(path: str) -> list[str]:
  """The files behind x.array_record: itself, or x.array_record-00000-of-00004 and so on."""
  if os.path.isfile(path):
    return [path]
  folder, stem = os.path.split(path)
  pattern = re.compile(re.escape(stem) + r"-[0-9]+-of-[0-9]+")
  found = sorted(n for n in os.listdir(folder or ".") if pattern.fullmatch(n))
  if not found:
    raise MediaError(f"{path}: does not exist.")
  return [os.path.join(folder, n) for n in found]
