# SPDX-License-Identifier: Apache-2.0
"""Opens media by name, within a budget of time.

A medium is a file, a folder of pictures, bytes, or a part of another file ("x.array_record#key",
"x.tar#member", "x.parquet#row/column"). Every fault of a medium raises a `MediaError` with one
sentence, and no file can make a program wait without end.
"""

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import pathlib
import re
import stat
import sys
import time
from typing import BinaryIO

import av

from data_pipelines.media import packed, remote
from filax.host_limits import open_file_limit

FOLDER_FPS = 2.0  # Pictures per second of a folder without @<number>fps at the end of its name.
GREY = 127  # Fills the border of a padded picture.
_FPS = re.compile(r"@([0-9]+(?:\.[0-9]+)?)fps$")
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# The version of the rules for frames and their times. A change makes all caches invalid.
_READING = 3
# Errors that the libraries raise for bad content. RuntimeError comes from ArrayRecord.
_DAMAGE = (
  av.error.FFmpegError,
  OSError,
  ValueError,
  LookupError,
  EOFError,
  RuntimeError,
  MemoryError,
)

Media = str | os.PathLike | bytes


class MediaError(ValueError):
  """A medium is missing, damaged or too slow.

  The message is one sentence that names the medium.
  """


class SlowMediaError(MediaError):
  """Reading a medium took more time than the limits allow."""


class LargeFrameError(MediaError):
  """A frame of a video has more pixels than the limits allow."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on the work for one medium: no file stalls a run."""

  open_seconds: float = 10.0  # To open a file and find its streams.
  decode_seconds: float = 60.0  # For all packets and frames of one request.
  packets: int = 20_000_000  # For one request: a day at 60 frames a second, with sound.
  image_pixels: int = 24_000_000  # Of a picture. The bound on its memory follows from this number.
  video_pixels: int = 0  # Of every frame of a video; 0 = no bound.


LIMITS = Limits()


def cache_variant(limits: Limits) -> str:
  """The suffix of identities in caches; "" for the default picture bound.

  The bound decides the scale of a large JPEG.
  """
  if limits.image_pixels == LIMITS.image_pixels:
    return ""
  return f"-{limits.image_pixels}px"


class Budget:
  """Counts the packets and time of a request against its limits."""

  def __init__(self, media: Media, limits: Limits):
    self._media = media
    self._limits = limits
    self._packets = 0
    self._deadline = time.monotonic() + limits.decode_seconds

  def spend(self):
    """Counts one packet or picture.

    Raises MediaError once the budget is used up.
    """
    self._packets += 1
    if time.monotonic() > self._deadline:
      raise SlowMediaError(
        f"{media_name(self._media)}: reading took more than {self._limits.decode_seconds:g} "
        "seconds; raise config.data.decode_seconds if the file is sound."
      )
    if self._packets > self._limits.packets:
      raise MediaError(f"{media_name(self._media)}: has more than {self._limits.packets} packets.")


def media_name(media: Media) -> str:
  """The name of a medium in messages."""
  if isinstance(media, bytes):
    return f"<{len(media)} bytes>"
  return os.fspath(media)


class UnfitProcess(OSError):
  """A sound file that this process cannot open.

  Too many files are open, or the encoding of the locale cannot write the file's name. A run that
  went on would leave sound media out.
  """


def check_process(error: BaseException, name: str) -> None:
  """Raises UnfitProcess if an error, or its cause, says so.

  name: that of the file.
  """
  if isinstance(error, UnfitProcess):
    raise error
  numbers = (getattr(error, "errno", None), getattr(error.__cause__, "errno", None))
  encoding = sys.getfilesystemencoding()
  if isinstance(error, UnicodeEncodeError) and encoding != "utf-8":
    raise UnfitProcess(
      f"{name} cannot be opened: this process writes the names of files in {encoding}, the "
      "encoding of its locale. Set PYTHONUTF8=1 before Python starts."
    ) from error
  if errno.EMFILE in numbers or errno.ENFILE in numbers:
    raise UnfitProcess(
      f"{name} cannot be opened: too many files are open. Raise the limit (ulimit -n), which is "
      f"{open_file_limit():,} for this process."
    ) from error


@contextlib.contextmanager
def reported(media: Media):
  """Converts library errors about bad content to MediaError.

  Raises UnfitProcess for what is no fault of the content.
  """
  try:
    yield
  except (MediaError, UnfitProcess):
    raise
  except FileNotFoundError as error:
    name = media_name(media)
    is_address = "://" in name and not remote.is_remote(name)
    reason = "is an address; download the file first" if is_address else "does not exist"
    raise MediaError(f"{name}: {reason}.") from error
  except av.error.ExitError as error:  # FFmpeg was interrupted by the time limit.
    raise SlowMediaError(
      f"{media_name(media)}: the file answers too slowly; raise config.data.open_seconds if it is "
      "sound."
    ) from error
  except _DAMAGE as error:
    check_process(error, media_name(media))
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first_line = reason.splitlines()[0]
    raise MediaError(f"{media_name(media)}: {first_line.rstrip('.')}.") from error


def open_content(media: Media) -> BinaryIO:
  """Opens a file, bytes or a part of another file.

  Raises MediaError.
  """
  return open_packed(media) if is_packed(media) else open_file(media)


def open_file(media: Media) -> BinaryIO:
  """Opens a regular, non-empty file without blocking.

  Raises MediaError for pipes, sockets and devices, and for empty files. The files of /proc count as
  empty: they look like regular files, but reading some of them would block forever.
  """
  with reported(media):
    path = remote.local_path(file_path(media))
    if not stat.S_ISREG(os.stat(path).st_mode):  # Opening a device can start it.
      raise MediaError(f"{media_name(media)}: is neither a file nor a folder.")
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = os.fdopen(number, "rb")
    try:
      state = os.fstat(number)
      if not stat.S_ISREG(state.st_mode):  # It was replaced in between.
        raise MediaError(f"{media_name(media)}: is neither a file nor a folder.")
      if state.st_size == 0:
        raise MediaError(f"{media_name(media)}: is empty.")
    except BaseException:
      file.close()
      raise
    return file


def file_path(media: Media) -> str:
  """The path of a file or a folder.

  "x@3fps" is the folder x, read at 3 pictures per second, unless something is named x@3fps. Raises
  TypeError for bytes.
  """
  if isinstance(media, bytes):
    raise TypeError(f"{media_name(media)} have no path")
  path = os.fspath(media)
  rate = _FPS.search(path)
  if rate is None or remote.exists(path):
    return path
  return path[: rate.start()]


def is_packed(media: Media) -> bool:
  """Whether the content is bytes or a part of another file."""
  return isinstance(media, bytes) or packed.is_inside(media)


def open_packed(media: Media) -> BinaryIO:
  """The content of bytes or of a part of another file.

  Raises MediaError.
  """
  if isinstance(media, bytes):
    return io.BytesIO(media)
  with reported(media):
    try:
      return packed.open_inside(media, open_file)
    except MediaError as error:  # It names the other file; the message must name the medium.
      raise MediaError(f"{media_name(media)}: {error}") from error


def read_bytes(media: Media) -> bytes:
  """The content of bytes or of a part of another file."""
  if isinstance(media, bytes):
    return media
  with reported(media), open_packed(media) as content:
    return content.read()


def folder_pictures(media: Media) -> list[str]:
  """The pictures of a folder in natural order: frame2 comes before frame10."""
  folder = file_path(media)
  names = []
  with reported(media):
    for name in remote.file_names(folder):
      if name.lower().endswith(PICTURES) and name[0] != ".":
        names.append(name)
  if not names:
    raise MediaError(f"{media_name(media)}: the folder has no pictures ({' '.join(PICTURES)}).")
  names.sort(key=_natural_order)
  return [os.path.join(folder, name) for name in names]


def _natural_order(name: str) -> tuple[list[str | int], str]:
  """A key that sorts the numbers in names by their value."""
  pieces: list[str | int] = []
  for piece in re.split("([0-9]+)", name.lower()):
    pieces.append(int(piece) if piece.isdecimal() else piece)
  return pieces, name


def folder_fps(media: Media) -> float:
  """Pictures per second of a folder.

  3 for a medium ending in "@3fps", otherwise FOLDER_FPS. Raises TypeError for bytes.
  """
  if isinstance(media, bytes):
    raise TypeError(f"{media_name(media)} have no path")
  match = _FPS.search(pathlib.Path(media).name)
  if match is None:
    return FOLDER_FPS
  return float(match[1]) or FOLDER_FPS


def identity(media: Media) -> str:
  """A digest that changes with the content.

  It depends on path, size and time of last change; for an object of a bucket, on its version.
  """
  if isinstance(media, bytes):
    return hashlib.sha256(media).hexdigest()
  with reported(media):
    if packed.is_inside(media):
      path, place = packed.place_inside(media)
      facts = [place, _state(path)]
    elif remote.is_folder(file_path(media)):
      facts = [_state(path) for path in folder_pictures(media)]
    else:
      facts = [_state(file_path(media))]
  text = json.dumps([_READING, remote.absolute(media), facts])
  return hashlib.sha256(text.encode()).hexdigest()


def _state(path) -> tuple[str, int, int]:
  size, change = remote.state(path)
  return os.path.basename(path), size, change


def check_pixels(media: Media, width: int, height: int, limits: Limits):
  """Raises MediaError for a picture of more than limits.image_pixels."""
  if width * height > limits.image_pixels:
    raise MediaError(
      f"{media_name(media)}: has {width} x {height} pixels, more than config.data.image_pixels="
      f"{limits.image_pixels}; raise it if the file is sound."
    )
