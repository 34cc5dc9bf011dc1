# SPDX-License-Identifier: Apache-2.0
"""A picture's file for Pillow, with bounds on reads and bytes.

Pillow's parsers read a file without a bound. Reads and bytes are counted, not seconds, so every
machine accepts the same files.
"""

import os
import time
from typing import BinaryIO

from PIL import ImageFile

from data_pipelines.media.open import (
  Limits,
  Media,
  MediaError,
  is_packed,
  media_name,
  open_file,
  open_packed,
)

_READS = 300_000  # Per file; about a second in Pillow's Python parsers.
_RUN_READS = 600_000  # In addition for a run-length BMP: two per run.
_BESIDE = 64_000_000  # Bytes of a file besides its pixels: profiles, previews, texts.
_RAW = 8  # Maximum bytes per pixel in a file: four channels of 16 bits.


class PictureFile:
  """An open picture's bytes, for one decoder.

  It has no `fileno`, so that no library can bypass it.
  """

  def __init__(self, media: Media, limits: Limits):
    if is_packed(media):
      self._file: BinaryIO = open_packed(media)
      self.length = self._file.seek(0, os.SEEK_END)
      self._file.seek(0)
    else:
      self._file = open_file(media)
      self.length = os.fstat(self._file.fileno()).st_size
    self._media = media
    self._limits = limits
    self._deadline = time.monotonic() + limits.decode_seconds
    self._reads = _READS
    self._scans = 0
    self._scan_limit = 0  # 0: scans are not counted.
    self._allowance = _BESIDE

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def close(self) -> None:
    self._file.close()

  def allow_pixels(self, picture: ImageFile.ImageFile) -> None:
    """Adds the bytes of a picture's pixels to what may be read."""
    self._allowance += _RAW * picture.width * picture.height
    if picture.tile and picture.tile[0][0] == "bmp_rle":
      self._reads += _RUN_READS

  def limit_scans(self, scans: int) -> None:
    """Bounds the scans of a JPEG from here on."""
    self._scan_limit = scans

  def read(self, size: int = -1) -> bytes:
    wanted = max(0, self.length - self._file.tell())
    if size is not None and size >= 0:
      wanted = min(size, wanted)
    self._reads -= 1
    self._allowance -= wanted
    if self._reads < 0:
      raise MediaError(f"{self._name}: consists of too many small parts.")
    if self._allowance < 0:
      raise MediaError(
        f"{self._name}: has more than {_BESIDE / 1e6:.0f} MB beside what its pixels can take."
      )
    if time.monotonic() > self._deadline:
      raise MediaError(
        f"{self._name}: reading took more than {self._limits.decode_seconds:g} seconds; raise "
        "config.data.decode_seconds if the file is sound."
      )
    try:
      data = self._file.read(wanted)
    except OSError as error:
      raise MediaError(f"{self._name}: {error.strerror or error}.") from error
    if self._scan_limit:
      self._scans += data.count(b"\xff\xda")
      if self._scans > self._scan_limit:
        raise MediaError(f"{self._name}: is a JPEG of more than {self._scan_limit} scans.")
    return data

  def readline(self, size: int = -1) -> bytes:
    line = self._file.readline(size)
    self._allowance -= len(line)
    return line

  def seek(self, place: int, origin: int = os.SEEK_SET) -> int:
    return self._file.seek(place, origin)

  def tell(self) -> int:
    return self._file.tell()

  def peek(self, size: int, place: int = 0) -> bytes:
    """Bytes at `place` without moving the position.

    `place` may lie outside the file.
    """
    position = self.tell()
    self.seek(max(0, place))
    data = self.read(size)
    self.seek(position)
    return data if place >= 0 else b""

  @property
  def _name(self) -> str:
    return media_name(self._media)
