# SPDX-License-Identifier: Apache-2.0
"""One queue for the device: requests wait, are read, batched and answered."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

from filax.infer.session import Session
from filax.serve.limits import ServingLimits
from filax.serve.requests import AnswerPiece, AnswerRequest, Usage


class AnswerHandle:
  """The answer to one request, while it is generated.

  Iterate over it, with `for` in a thread or `async for` in an event loop, to receive pieces.
  Iteration raises RequestError if the request cannot be answered.
  """

  def __iter__(self) -> Iterator[AnswerPiece]:
    raise NotImplementedError

  def __aiter__(self) -> AsyncIterator[AnswerPiece]:
    raise NotImplementedError

  def cancel(self) -> None:
    """Ends the answer: at most two more chunks of tokens run for it."""

  @property
  def usage(self) -> Usage:
    """What the answer took. Raises RuntimeError before the last piece."""
    raise NotImplementedError


class Engine:
  """Answers requests, several at a time, on one device queue.

    engine = Engine(filax.load("runs/demo/stage2"))
    for piece in engine.submit(request):
      print(piece.text, end="", flush=True)
    engine.close()
  """

  def __init__(self, session: Session, limits: ServingLimits | None = None):
    self.session = session
    self.limits = limits or ServingLimits()

  def submit(self, request: AnswerRequest) -> AnswerHandle:
    """Puts a request into the queue and returns at once.

    Raises RequestError for settings out of range, and for a full queue.
    """
    raise NotImplementedError

  def on_device(self, function: Callable[..., Any], *args: Any) -> Future:
    """Runs function(*args) between two batches, alone on the device.

    For work beside answers, such as choosing scenes or measuring attention.
    """
    raise NotImplementedError

  def close(self, seconds: float = 30.0) -> None:
    """Takes no more requests, finishes those that run, and stops."""
    raise NotImplementedError
