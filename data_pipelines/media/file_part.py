# SPDX-License-Identifier: Apache-2.0
"""A part of an open file as a file."""

import io
import os
from typing import BinaryIO


class FilePart(io.RawIOBase):
  """Some bytes of an open file.

  The place in that file is neither used nor moved, so threads and processes may share it.
  """

  def __init__(self, file: BinaryIO, start: int, size: int):
    self._file = file
    self._start = start
    self._size = size
    self._place = 0

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    wanted = max(0, min(len(buffer), self._size - self._place))
    data = os.pread(self._file.fileno(), wanted, self._start + self._place)
    buffer[: len(data)] = data
    self._place += len(data)
    return len(data)

  def seek(self, place: int, origin: int = os.SEEK_SET) -> int:
    base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[origin]
    if base + place < 0:
      raise ValueError("a place before the beginning")
    self._place = base + place
    return self._place

  def tell(self) -> int:
    return self._place
