# SPDX-License-Identifier: Apache-2.0
"""Decoded videos on disk, for small corpora that are read many times.

A video becomes <key>.npy, uint8 [n size size 3], and <key>.times.npy, a checked file (filax.files)
with the time of every frame and a checksum of its time and pixels. The key is the media's identity
(path, size, time of change) and the picture size. Files are written by rename, so any number of
threads and processes may share a folder. Frames are bit-identical to those of `frames.read_frames`:
all bytes used are verified by checksum, a damaged file is written again, and a video that does not
decode to its end is read without the cache. When the disk is nearly full, nothing more is written.
"""

import errno
import functools
import io
import os
import pathlib
import shutil
import zlib

import numpy as np

from data_pipelines.mapped import threads_lock
from data_pipelines.media import remote
from data_pipelines.media.content import content_kind
from data_pipelines.media.frames import TOLERANCE, Frames, Times, read_frames, walk
from data_pipelines.media.open import (
  LIMITS,
  Limits,
  Media,
  MediaError,
  cache_variant,
  identity,
  media_name,
)
from data_pipelines.npy_content import read_npy
from filax import files

_FRAME = np.dtype([("second", "<f8"), ("checksum", "<u4")])
_LEFT_SHARE = 0.05  # Of the disk: what is left to checkpoints and answers ...
_LEFT_BYTES = 100e9  # ... but no more than this.
_HEADER = 128  # Bytes before the pixels of an .npy file, filled in once their count is known.


class FrameCache:
  """`read_frames` from a folder of decoded videos; picklable.

  folder: created if missing. A folder that cannot be written only disables the cache.
  size: the side of the pictures in pixels. Requests for another size, or for padded pictures,
    bypass the cache.
  limit: the maximum bytes of one video on disk.
  """

  def __init__(self, folder: str | os.PathLike, size: int, limit: int = 2 << 30):
    self.folder = pathlib.Path(folder)
    self.size = size
    self.limit = limit
    self._writable = True
    self._skipped: set[str] = set()  # Keys of videos that are too large, or damaged.
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      self._give_up(error)
    files.remove_leftovers(self.folder)

  def read_frames(
    self,
    media: Media,
    times: Times,
    size: int,
    *,
    resize: str = "squash",
    limits: Limits = LIMITS,
    fps: float | None = None,
  ) -> Frames:
    """The same frames as `frames.read_frames`."""
    if size == self.size and resize != "pad" and np.isfinite(times).all():
      if not remote.is_remote(media):  # An object is fetched only if it must be read.
        content_kind(media)  # Raises the usual error for a missing or empty file.
      key = _key(media, size, resize, limits, fps)
      wanted = np.asarray(times, np.float64)
      cached = self._read(key, wanted)
      if cached is None and self._writable and key not in self._skipped:
        cached = self._write_and_read(key, media, wanted, resize, limits, fps)
      if cached is not None:
        return cached
    return read_frames(media, times, size, resize=resize, limits=limits, fps=fps)

  def _write_and_read(
    self,
    key: str,
    media: Media,
    times: np.ndarray,
    resize: str,
    limits: Limits,
    fps: float | None,
  ) -> Frames | None:
    """Writes a video and reads it back; None if that fails."""
    with threads_lock(str(self.folder / key)):  # Threads decode the same video only once.
      cached = self._read(key, times)
      if cached is not None:  # Another thread was faster.
        return cached
      try:
        self._write(key, media, resize, limits, fps)
      except MediaError:  # Reading without the cache reports the error, if any.
        self._skipped.add(key)
        return None
      except OSError as error:
        self._give_up(error)
        return None
      return self._read(key, times)

  def _give_up(self, error: OSError) -> None:
    """Stops writing.

    On a full disk every video would otherwise be decoded twice for nothing.
    """
    self._writable = False
    files.report_unwritable(self.folder, error)

  def _read(self, key: str, times: np.ndarray) -> Frames | None:
    """The frames on screen at `times`; None without intact files."""
    path = self.folder / f"{key}.npy"
    table = self._table(key)
    if table is None:
      return None
    numbers = np.searchsorted(table["second"], times + TOLERANCE, side="right") - 1
    numbers = np.clip(numbers, 0, None)
    try:
      frames = self._pixels(path, table, numbers)
    except FileNotFoundError:
      return None
    except (OSError, files.DamagedFile) as error:
      files.report_damage(path, error)
      return None
    return frames, table["second"][numbers]

  def _table(self, key: str) -> np.ndarray | None:
    """Time and checksum of every frame, _FRAME [n], or None."""
    path = self.folder / f"{key}.times.npy"
    try:
      state = path.stat()
    except OSError:
      return None
    version = (state.st_ino, state.st_size, state.st_mtime_ns)
    return _read_table(path, key, version)

  def _pixels(self, path: pathlib.Path, table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Frames uint8 [T size size 3] by their numbers [T].

    Raises OSError or DamagedFile.
    """
    header = _header((len(table), self.size, self.size, 3))
    frame_bytes = self.size * self.size * 3
    frames = np.empty((len(numbers), self.size, self.size, 3), np.uint8)
    seconds = table["second"][numbers]
    checksums = table["checksum"][numbers]
    with open(path, "rb", buffering=0) as file:  # Not mapped: a truncated file would crash us.
      if os.fstat(file.fileno()).st_size != _HEADER + len(table) * frame_bytes:
        raise files.DamagedFile(f"{path} is not what was written: its size differs.")
      if file.read(_HEADER) != header:
        raise files.DamagedFile(f"{path} is not what was written: its header differs.")
      for place, number in enumerate(numbers):
        frame = frames[place]
        file.seek(_HEADER + int(number) * frame_bytes)
        file.readinto(frame.data)
        if _checksum(seconds[place], frame) != checksums[place]:
          raise files.DamagedFile(
            f"{path} is not what was written: the checksum of frame {number} differs."
          )
    return frames

  def _write(self, key: str, media: Media, resize: str, limits: Limits, fps: float | None) -> None:
    """Decodes a complete video into its files.

    Raises MediaError or OSError, and then leaves no files.
    """
    disk = shutil.disk_usage(self.folder)
    left = min(_LEFT_SHARE * disk.total, _LEFT_BYTES)
    if disk.free < left:
      raise OSError(errno.ENOSPC, f"less than {left / 1e9:.1f} GB of the disk are free")
    rows = []
    with files.write_atomically(self.folder / f"{key}.npy") as pixels:
      pixels.seek(_HEADER)
      for second, frame in walk(media, self.size, resize=resize, limits=limits, fps=fps):
        frame = np.ascontiguousarray(frame)
        rows.append((second, _checksum(second, frame)))
        if len(rows) * frame.nbytes > self.limit:
          raise MediaError(f"{media_name(media)}: is too large to be cached.")
        pixels.write(frame.data)
      if not rows:
        raise MediaError(f"{media_name(media)}: has no frames.")
      pixels.seek(0)
      pixels.write(_header((len(rows), self.size, self.size, 3)))
      table = io.BytesIO()
      np.save(table, np.array(rows, _FRAME))
      files.write_checked(self.folder / f"{key}.times.npy", table.getbuffer(), key)


def _key(media: Media, size: int, resize: str, limits: Limits, fps: float | None) -> str:
  """The name of a video's files: a digest.

  It depends on the media's identity, the pictures' size and the reading options.
  """
  key = f"{identity(media)[:32]}-{size}"
  if fps:
    key += f"-{float(fps)!r}fps"
  if resize != "squash":
    key += f"-{resize}"
  return key + cache_variant(limits)


@functools.lru_cache(maxsize=4096)
def _read_table(path: pathlib.Path, key: str, version: tuple[int, int, int]) -> np.ndarray | None:
  """The table in a file, cached per `version` of the file."""
  return files.read_cache(path, _parsed_table, key)


def _parsed_table(content: bytes) -> np.ndarray:
  table = read_npy(content)
  if table.dtype != _FRAME or table.ndim != 1 or not len(table):
    raise ValueError(f"it holds {table.dtype} {table.shape}")
  return table


def _checksum(second: float, frame: np.ndarray) -> int:
  """CRC-32 of a frame's time and pixels, uint8 [size size 3].

  A sha256 would take four times as long as reading the frame.
  """
  second_checksum = zlib.crc32(np.float64(second).data)
  return zlib.crc32(frame.data, second_checksum)


def _header(shape: tuple[int, ...]) -> bytes:
  """The header of an .npy file of uint8, padded to _HEADER bytes."""
  facts = str({"descr": "|u1", "fortran_order": False, "shape": shape})
  magic = b"\x93NUMPY\x01\x00"
  length = (_HEADER - 10).to_bytes(2, "little")
  padded = facts.ljust(_HEADER - 11).encode()
  return magic + length + padded + b"\n"
