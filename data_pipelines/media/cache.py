# SPDX-License-Identifier: Apache-2.0
"""Decoded videos on disk, for small corpora that are read many times.

A video becomes <key>.npy, uint8 [n size size 3], and <key>.times.npy: the time and checksum of
every frame. The key is the media's identity (path, size, time of change) and the picture size.
Files appear by rename, so any number of threads and processes may share a folder. Frames are bit
for bit those of `video.read_frames`: a damaged file is written anew, a video that cannot be decoded
whole is read without the cache.
"""

from collections.abc import Sequence
import contextlib
import functools
import os
import pathlib
import threading
import uuid
import zlib

import numpy as np

from data_pipelines.media import frames as video
from data_pipelines.media import open as media_lib
from data_pipelines.media.open import LIMITS, Limits, Media, MediaError

_FRAME = np.dtype([("second", "f8"), ("checksum", "u4")])
_HEADER = 128  # Bytes before the pixels of an .npy file, filled in once their count is known.
_writing: dict[str, threading.Lock] = {}  # Threads that want the same video decode it once.


class FrameCache:
  """`read_frames` from a folder of decoded videos; picklable.

  folder: made if need be. size: the pictures' side in pixels; requests for another size, or for
  padded pictures, go past the cache. limit: the most bytes that one video may take on disk.
  """

  def __init__(self, folder: str | os.PathLike, size: int, limit: int = 2 << 30):
    self.folder, self.size, self.limit = pathlib.Path(folder), size, limit
    self.folder.mkdir(parents=True, exist_ok=True)
    self._skipped: set[str] = set()  # Keys that cannot be cached: too large, damaged, disk full.

  def read_frames(
      self, media: Media, times: Sequence[float], size: int, *, resize: str = "squash",
      limits: Limits = LIMITS, fps: float | None = None) -> video.Frames:
    """As `video.read_frames`, and the same frames."""
    if size == self.size and resize != "pad" and np.isfinite(times).all():
      media_lib.kind(media)  # A missing or empty file is reported as without a cache.
      key = f"{media_lib.identity(media)[:32]}-{size}" + (f"-{fps:g}fps" if fps else "")
      key += "" if resize == "squash" else f"-{resize}"
      key += media_lib.variant(limits)
      times = np.asarray(times, np.float64)
      found = self._read(key, times)
      if found is None and key not in self._skipped:
        found = self._filled(key, media, times, resize, limits, fps)
      if found is not None:
        return found
    return video.read_frames(media, times, size, resize=resize, limits=limits, fps=fps)

  def _filled(self, key, media, times, resize, limits, fps) -> video.Frames | None:
    """Writes the video and reads it back; None if it cannot be cached."""
    with _writing.setdefault(str(self.folder / key), threading.Lock()):
      if (found := self._read(key, times)) is not None:  # Another thread was faster.
        return found
      try:
        self._write(key, media, resize, limits, fps)
      except (MediaError, OSError):  # Reading without the cache says what is wrong, if it is.
        self._skipped.add(key)
        return None
      return self._read(key, times)

  def _read(self, key: str, times: np.ndarray) -> video.Frames | None:
    """The wanted frames; None if the video is not there or its files are damaged."""
    path, frame_bytes = self.folder / f"{key}.times.npy", self.size * self.size * 3
    try:
      stat = path.stat()
      table = _table(path, (stat.st_mtime_ns, stat.st_size))
      with open(self.folder / f"{key}.npy", "rb", buffering=0) as pixels:
        whole = _HEADER + len(table) * frame_bytes
        if table.dtype != _FRAME or os.fstat(pixels.fileno()).st_size != whole:
          return None
        shown = np.searchsorted(table["second"], times + video.TOLERANCE, side="right") - 1
        shown = np.clip(shown, 0, None)
        frames = np.empty((len(shown), self.size, self.size, 3), np.uint8)
        for place, frame in enumerate(shown):  # Not mapped: a file cut short would kill us.
          pixels.seek(_HEADER + int(frame) * frame_bytes)
          if pixels.readinto(frames[place].data) != frame_bytes:
            return None
    except (OSError, ValueError, EOFError):
      return None
    checksums = table["checksum"][shown]
    if any(zlib.crc32(f) != checksum for f, checksum in zip(frames, checksums, strict=True)):
      return None
    return frames, table["second"][shown].astype(np.float32)

  def _write(self, key: str, media: Media, resize: str, limits: Limits, fps: float | None):
    """Decodes the whole video into place. Raises MediaError or OSError, leaving nothing behind."""
    token, table = uuid.uuid4().hex, []
    pixels, times = (self.folder / f"{key}.{token}{kind}.tmp" for kind in ("", ".times"))
    try:
      with open(pixels, "wb") as out:
        out.seek(_HEADER)
        for second, frame in video.walk(
              media, self.size, resize=resize, limits=limits, fps=fps):
          table.append((second, zlib.crc32(np.ascontiguousarray(frame))))
          if len(table) * frame.nbytes > self.limit:
            raise MediaError(f"{media_lib.name(media)}: is too large to be cached.")
          out.write(frame.tobytes())
        out.seek(0)
        out.write(_header((len(table), self.size, self.size, 3)))
      with open(times, "wb") as out:
        np.save(out, np.array(table, _FRAME))
      os.replace(times, self.folder / f"{key}.times.npy")
      os.replace(pixels, self.folder / f"{key}.npy")
    finally:
      for path in (pixels, times):
        with contextlib.suppress(FileNotFoundError):
          path.unlink()


@functools.lru_cache(maxsize=4096)
def _table(path: pathlib.Path, version: tuple[int, int]) -> np.ndarray:
  """The frames of a video; kept, for as long as its file is of this `version`."""
  return np.load(path, allow_pickle=False)


def _header(shape: tuple[int, ...]) -> bytes:
  """The head of an .npy file of uint8 in C order, padded to _HEADER bytes."""
  facts = str({"descr": "|u1", "fortran_order": False, "shape": shape})
  magic = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
  return magic + facts.ljust(_HEADER - 11).encode() + b"\n"
