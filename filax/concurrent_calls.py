# SPDX-License-Identifier: Apache-2.0
"""Calls a function for many items in a few threads."""

from collections.abc import Callable, Iterator, Sequence
import queue
import threading
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Outcome(NamedTuple):
  number: int
  result: object
  error: BaseException | None


def concurrent_calls(
  function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> Iterator[tuple[int, Result]]:
  """Yields (number of the item, result) as the calls end.

  An exception of a call is raised, and no further call begins. The threads are daemons: a program
  that is interrupted does not wait for a server.
  """
  waiting: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
  for numbered in enumerate(items):
    waiting.put(numbered)
  outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
  stop = threading.Event()

  def work() -> None:
    while not stop.is_set():
      try:
        number, item = waiting.get_nowait()
      except queue.Empty:
        return
      try:
        outcome = _Outcome(number, function(item), None)
      except BaseException as error:
        stop.set()
        outcome = _Outcome(number, None, error)
      outcomes.put(outcome)

  try:
    for _ in range(min(threads, len(items))):
      threading.Thread(target=work, name="filax call", daemon=True).start()
    for _ in items:
      outcome = outcomes.get()
      if outcome.error is not None:
        raise outcome.error
      yield outcome.number, outcome.result  # type: ignore[misc]
  finally:
    stop.set()
