# SPDX-License-Identifier: Apache-2.0
"""An answer of a live session, which may be cancelled while it is generated."""

from collections.abc import Iterator
import threading

from filax.infer.generate import TokenChunk


class LiveAnswer:
  """The chunks of an answer.

  `is_open` until the last chunk, an error, or `close`. `lock` is held while a chunk is
  generated.
  """

  def __init__(self, chunks: Iterator[TokenChunk], lock: threading.RLock):
    self._chunks = chunks
    self._lock = lock
    self.is_open = True
    self._cancelled = False

  def __iter__(self) -> Iterator[TokenChunk]:
    return self

  def __next__(self) -> TokenChunk:
    with self._lock:
      if self._cancelled:
        raise RuntimeError("The answer was cancelled.")
      try:
        return next(self._chunks)
      except BaseException:
        self.is_open = False
        raise

  def close(self) -> None:
    """Cancels the answer if it is open."""
    with self._lock:
      self._cancelled = self.is_open
      self.is_open = False
