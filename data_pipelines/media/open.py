# SPDX-License-Identifier: Apache-2.0
"""What a media name stands for, and how it is opened within a budget of time.

A medium is a file, a folder of pictures, "x.array_record#key", or bytes. Whatever is wrong with it
surfaces as one `MediaError` of one sentence, and nothing here waits without a bound.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import stat
import time

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_pipelines import array_records

FOLDER_FPS = 2.0  # Pictures a second of a folder whose name does not end in @<number>fps.
GREY = 127  # Fills the border of a padded picture.
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Counts changes to which frames a file is said to have, so that no cache holds those of before.
_READING = 2
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")  # jpeg png bmp tiff
# What the libraries raise about bad content: RuntimeError is ArrayRecord's, SyntaxError Pillow's.
_DAMAGE = (
  av.error.FFmpegError, OSError, ValueError, LookupError, EOFError, RuntimeError, SyntaxError,
  MemoryError, Image.DecompressionBombError)

Media = str | os.PathLike | bytes


class MediaError(ValueError):
  """A medium is missing, damaged or too slow. The message is one sentence that names it."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on the work for one medium, so that a bad file cannot stall a run."""

  open_seconds: float = 10.0  # To open a file and find its streams.
  decode_seconds: float = 60.0  # For all packets and frames of one request.
  packets: int = 5_000_000  # Read for one request: a day of video at 60 frames a second.


LIMITS = Limits()


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
  except UnidentifiedImageError as error:
    raise MediaError(f"{name(media)}: is no picture.") from error
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
      mode = os.stat(media).st_mode
      if stat.S_ISDIR(mode):
        return "folder"
      if not stat.S_ISREG(mode):  # Opening a pipe would wait for ever.
        raise MediaError(f"{name(media)}: is neither a file nor a folder.")
      with open(media, "rb") as file:
        head = file.read(16)
  if not head:
    raise MediaError(f"{name(media)}: is empty.")
  webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
  return "image" if webp or head.startswith(_MAGIC) else "video"


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
  return hashlib.sha256(json.dumps([_READING, os.path.abspath(media), facts]).encode()).hexdigest()


def _state(path) -> tuple[str, int, int]:
  state = os.stat(path)
  return os.path.basename(path), state.st_size, state.st_mtime_ns


def read_image(media: Media, size: int | None = None, *, resize: str = "squash") -> np.ndarray:
  """A picture as uint8 [h w 3] of its own size, or [size size 3] (see `fit`).

  EXIF orientation is honoured, transparency dropped; an animation gives its first frame.
  """
  if not is_packed(media):
    kind(media)  # Says it plainly if the file is missing, empty or a pipe.
  source = io.BytesIO(read_bytes(media)) if is_packed(media) else media
  with reported(media):
    with Image.open(source) as picture:
      picture = ImageOps.exif_transpose(picture).convert("RGB")
  return np.asarray(picture) if size is None else fit(picture, size, resize)


def fit(picture: Image.Image, size: int, resize: str = "squash") -> np.ndarray:
  """An RGB picture as uint8 [size size 3], by Pillow's antialiased bicubic.

  "squash" and "pillow" change the aspect ratio; "pad" keeps it and fills the rest with GREY.
  """
  inner = placed(*picture.size, size, resize)
  return framed(np.asarray(picture.resize(inner, Image.Resampling.BICUBIC)), size)


def placed(width: int, height: int, size: int, resize: str) -> tuple[int, int]:
  """The (width, height) that a picture gets inside a square of `size`."""
  if resize in ("squash", "pillow"):
    return size, size
  if resize != "pad":
    raise ValueError(
      f"resize is {resize!r}, but pictures are resized by \"squash\", \"pillow\" or \"pad\" "
      "(config.data.resize).")
  longest = max(width, height)
  return max(1, round(width * size / longest)), max(1, round(height * size / longest))


def framed(picture: np.ndarray, size: int) -> np.ndarray:
  """A picture [h w 3] in the middle of a grey square [size size 3]."""
  h, w, _ = picture.shape
  if h == w == size:
    return picture
  square = np.full((size, size, 3), GREY, np.uint8)
  top, left = (size - h) // 2, (size - w) // 2
  square[top:top + h, left:left + w] = picture
  return square
