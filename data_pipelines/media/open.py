# SPDX-License-Identifier: Apache-2.0
"""What a media name stands for, and how it is opened within a budget of time.

A medium is a file, a folder of pictures, "x.array_record#key", or bytes. Whatever is wrong with it
surfaces as one `MediaError` of one sentence, and nothing here waits without a bound.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import stat
import time
from typing import BinaryIO

import av

from data_pipelines.media import array_record

FOLDER_FPS = 2.0  # Pictures a second of a folder whose name does not end in @<number>fps.
GREY = 127  # Fills the border of a padded picture.
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Counts changes to which frames a file is said to have, so that no cache holds those of before.
_READING = 2
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")  # jpeg png bmp tiff
# What the libraries raise about bad content; RuntimeError is ArrayRecord's.
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
        "raise config.data.decode_seconds if the file is sound."
      )
    if self._packets > self._limits.packets:
      raise MediaError(f"{name(self._media)}: has more than {self._limits.packets} packets.")


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
      f"{name(media)}: the file answers too slowly; raise config.data.open_seconds if it is sound."
    ) from error
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
  return isinstance(media, bytes) or array_record.split(media) is not None


def read_bytes(media: Media) -> bytes:
  """The content of bytes or of "x.array_record#key"."""
  if isinstance(media, bytes):
    return media
  with reported(media):
    return array_record.read(*array_record.split(media))


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
    if packed := array_record.split(media):
      path, record = array_record.locate(*packed)
      facts = [record, _state(path)]
    elif os.path.isdir(media):
      facts = [_state(path) for path in folder(media)]
    else:
      facts = [_state(media)]
  return hashlib.sha256(json.dumps([_READING, os.path.abspath(media), facts]).encode()).hexdigest()


def _state(path) -> tuple[str, int, int]:
  state = os.stat(path)
  return os.path.basename(path), state.st_size, state.st_mtime_ns


def check_pixels(media: Media, width: int, height: int, limits: Limits):
  """Raises MediaError for a picture of more than limits.image_pixels."""
  if width * height > limits.image_pixels:
    raise MediaError(
      f"{name(media)}: has {width} x {height} pixels, more than config.data.image_pixels="
      f"{limits.image_pixels}; raise it if the file is sound."
    )
