# SPDX-License-Identifier: Apache-2.0
"""Decoded videos on disk, for small corpora that are read many times.

A video becomes <key>.npy, uint8 [n size size 3], and <key>.times.npy, a checked file (filax.files)
with the time of every frame and a checksum of its time and pixels. The key is the media's identity
(path, size, time of change) and the picture size. Files appear by rename, so any number of threads
and processes may share a folder. Frames are bit for bit those of `video.read_frames`: every byte
that is used was compared with its checksum, a damaged file is written anew, and a video that cannot
be decoded whole is read without the cache.
"""

from collections.abc import Sequence
import functools
import io
import os
import pathlib
import threading
import zlib

import numpy as np

from data_pipelines.media import frames as video
from data_pipelines.media import open as media_lib
from data_pipelines.media.open import LIMITS, Limits, Media, MediaError
from filax import files

_FRAME = np.dtype([("second", "<f8"), ("checksum", "<u4")])
_HEADER = 128  # Bytes before the pixels of an .npy file, filled in once their count is known.
_writing: dict[str, threading.Lock] = {}  # Threads that want the same video decode it once.


class FrameCache:
  """`read_frames` from a folder of decoded videos; picklable.

  folder: made if need be; one that cannot be written costs time, no more. size: the pictures' side
  in pixels; requests for another size, or for padded pictures, go past the cache. limit: the most
  bytes that one video may take on disk.
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
    times: Sequence[float],
    size: int,
    *,
    resize: str = "squash",
    limits: Limits = LIMITS,
    fps: float | None = None,
  ) -> video.Frames:
    """As `video.read_frames`, and the same frames."""
    if size == self.size and resize != "pad" and np.isfinite(times).all():
      media_lib.kind(media)  # A missing or empty file is reported as without a cache.
      key = f"{media_lib.identity(media)[:32]}-{size}" + (f"-{float(fps)!r}fps" if fps else "")
      key += "" if resize == "squash" else f"-{resize}"
      key += media_lib.variant(limits)
      times = np.asarray(times, np.float64)
      cached = self._read(key, times)
      if cached is None and self._writable and key not in self._skipped:
        cached = self._filled(key, media, times, resize, limits, fps)
      if cached is not None:
        return cached
    return video.read_frames(media, times, size, resize=resize, limits=limits, fps=fps)

  def _filled(self, key, media, times, resize, limits, fps) -> video.Frames | None:
    """Writes the video and reads it back; None if it cannot be cached."""
    with _writing.setdefault(str(self.folder / key), threading.Lock()):
      cached = self._read(key, times)
      if cached is not None:  # Another thread was faster.
        return cached
      try:
        self._write(key, media, resize, limits, fps)
      except MediaError:  # Reading without the cache says what is wrong, if it is.
        self._skipped.add(key)
        return None
      except OSError as error:
        self._give_up(error)
        return None
      return self._read(key, times)

  def _give_up(self, error: OSError) -> None:
    """Writes nothing more: on a full disk every video would be decoded once more in vain."""
    self._writable = False
    files.report_unwritable(self.folder, error)

  def _read(self, key: str, times: np.ndarray) -> video.Frames | None:
    """The wanted frames; None if the video is not there or its files are damaged."""
    pixels = self.folder / f"{key}.npy"
    table = self._table(key)
    if table is None:
      return None
    shown = np.searchsorted(table["second"], times + video.TOLERANCE, side="right") - 1
    shown = np.clip(shown, 0, None)
    try:
      frames = self._pixels(pixels, table, shown)
    except FileNotFoundError:
      return None
    except (OSError, files.DamagedFile) as error:
      files.report_damage(pixels, error)
      return None
    return frames, table["second"][shown].astype(np.float32)

  def _table(self, key: str) -> np.ndarray | None:
    """The time and checksum of every frame, _FRAME [n]; None without a sound file."""
    path = self.folder / f"{key}.times.npy"
    try:
      state = path.stat()
    except OSError:
      return None
    return _read_table(path, key, (state.st_ino, state.st_size, state.st_mtime_ns))

  def _pixels(self, path: pathlib.Path, table: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Frames uint8 [T size size 3] by their numbers. Raises OSError or DamagedFile."""
    header = _header((len(table), self.size, self.size, 3))
    frame_bytes = self.size * self.size * 3
    frames = np.empty((len(shown), self.size, self.size, 3), np.uint8)
    seconds = table["second"][shown]
    checksums = table["checksum"][shown]
    with open(path, "rb", buffering=0) as file:  # Not mapped: a file cut short would kill us.
      if os.fstat(file.fileno()).st_size != _HEADER + len(table) * frame_bytes:
        raise files.DamagedFile(f"{path} is not what was written: its size differs.")
      if file.read(_HEADER) != header:
        raise files.DamagedFile(f"{path} is not what was written: its header differs.")
      for place, number in enumerate(shown):
        file.seek(_HEADER + int(number) * frame_bytes)
        file.readinto(frames[place].data)
        if _checksum(seconds[place], frames[place]) != checksums[place]:
          raise files.DamagedFile(
            f"{path} is not what was written: the checksum of frame {number} differs."
          )
    return frames

  def _write(self, key: str, media: Media, resize: str, limits: Limits, fps: float | None) -> None:
    """Decodes the whole video into place. Raises MediaError or OSError, leaving nothing behind."""
    rows = []
    with files.write_atomically(self.folder / f"{key}.npy") as pixels:
      pixels.seek(_HEADER)
      for second, frame in video.walk(media, self.size, resize=resize, limits=limits, fps=fps):
        frame = np.ascontiguousarray(frame)
        rows.append((second, _checksum(second, frame)))
        if len(rows) * frame.nbytes > self.limit:
          raise MediaError(f"{media_lib.name(media)}: is too large to be cached.")
        pixels.write(frame.data)
      if not rows:
        raise MediaError(f"{media_lib.name(media)}: has no frames.")
      pixels.seek(0)
      pixels.write(_header((len(rows), self.size, self.size, 3)))
      table = io.BytesIO()
      np.save(table, np.array(rows, _FRAME))
      files.write_checked(self.folder / f"{key}.times.npy", table.getbuffer(), key)


@functools.lru_cache(maxsize=4096)
def _read_table(path: pathlib.Path, key: str, version: tuple[int, int, int]) -> np.ndarray | None:
  """What a table's file holds; kept, for as long as the file is of this `version`."""
  return files.read_cache(path, _parsed_table, key)


def _parsed_table(content: bytes) -> np.ndarray:
  table = np.load(io.BytesIO(content), allow_pickle=False)
  if table.dtype != _FRAME or table.ndim != 1 or not len(table):
    raise ValueError(f"it holds {table.dtype} {table.shape}")
  return table


def _checksum(second: float, frame: np.ndarray) -> int:
  """CRC-32 of the time and the pixels, uint8 [size size 3], of a frame.

  A sha256 would take four times as long as reading the frame.
  """
  return zlib.crc32(frame, zlib.crc32(np.float64(second)))


def _header(shape: tuple[int, ...]) -> bytes:
  """The head of an .npy file of uint8 in C order, padded to _HEADER bytes."""
  facts = str({"descr": "|u1", "fortran_order": False, "shape": shape})
  magic = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
  return magic + facts.ljust(_HEADER - 11).encode() + b"\n"
