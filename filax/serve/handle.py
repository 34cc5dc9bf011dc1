# SPDX-License-Identifier: Apache-2.0
"""The answer to a request, as its client receives it."""

import asyncio
import collections
from collections.abc import AsyncIterator, Callable, Iterator
import contextlib
import functools
import threading

from filax.serve.requests import AnswerPiece, RequestError, Usage


class AnswerHandle:
  """The answer to one request, while it is generated.

  Iterate over it once, with `for` in a thread or `async for` in an event loop, to receive pieces.
  Iteration raises RequestError if the request cannot be answered; it ends without a usage if the
  request was cancelled.
  """

  def __init__(self) -> None:
    self._changed = threading.Condition()
    self._pieces: collections.deque[AnswerPiece] = collections.deque()
    self._error: RequestError | None = None
    self._usage: Usage | None = None
    self._ended = False
    self._cancelled = False
    self._wake: Callable[[], object] | None = None

  def __iter__(self) -> Iterator[AnswerPiece]:
    while True:
      with self._changed:
        while not self._pieces and not self._ended:
          self._changed.wait()
      yield from self._waiting_pieces()
      if self._is_finished():
        return

  async def __aiter__(self) -> AsyncIterator[AnswerPiece]:
    async for pieces in self.arrivals():
      for piece in pieces:
        yield piece

  async def arrivals(self) -> AsyncIterator[list[AnswerPiece]]:
    """The pieces, in lists of those that wait.

    One write can then send several.
    """
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    with self._changed:
      self._wake = functools.partial(loop.call_soon_threadsafe, arrived.set)
    while True:
      arrived.clear()
      if pieces := list(self._waiting_pieces()):
        yield pieces
      if self._is_finished():
        return
      await arrived.wait()

  def cancel(self) -> None:
    """Ends the answer, after at most two more chunks of tokens."""
    with self._changed:
      self._cancelled = True

  @property
  def cancelled(self) -> bool:
    """Whether the client has left."""
    return self._cancelled

  @property
  def ended(self) -> bool:
    """Whether no more pieces will come."""
    return self._ended

  @property
  def usage(self) -> Usage:
    """What the answer took. Raises RuntimeError before the last piece."""
    if self._usage is None:
      raise RuntimeError("The answer is not complete. Iterate over its pieces first.")
    return self._usage

  def give(self, piece: AnswerPiece) -> None:
    """Adds a piece. For the engine."""
    with self._changed:
      self._pieces.append(piece)
      self._notify()

  def complete(self, usage: Usage) -> None:
    """Ends the answer after its last piece. For the engine."""
    with self._changed:
      self._usage = usage
      self._ended = True
      self._notify()

  def fail(self, error: RequestError | None) -> None:
    """Ends the answer with an error; None after `cancel`. For the engine."""
    with self._changed:
      if self._ended:
        return
      self._error = error
      self._ended = True
      self._notify()

  def _notify(self) -> None:
    self._changed.notify_all()
    if self._wake is not None:
      with contextlib.suppress(RuntimeError):  # The event loop has ended.
        self._wake()

  def _waiting_pieces(self) -> Iterator[AnswerPiece]:
    while True:
      with self._changed:
        if not self._pieces:
          return
        piece = self._pieces.popleft()
      yield piece

  def _is_finished(self) -> bool:
    """Whether all pieces were received. Raises the error of the answer."""
    with self._changed:
      if not self._ended or self._pieces:
        return False
      if self._error is not None:
        raise self._error
      return True
