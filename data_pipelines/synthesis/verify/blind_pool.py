# SPDX-License-Identifier: Apache-2.0
"""A bounded, drawn part of the choice questions of each task and source."""

from collections.abc import Sequence
import dataclasses
import hashlib
import heapq

from data_pipelines.synthesis.verify.asked import NOT_GIVEN, AskedQuestion


@dataclasses.dataclass(frozen=True, order=True)
class BlindQuestion:
  """What an attack sees of a question, and the right option."""

  key: str  # The source video.
  stem: str
  options: tuple[str, ...]
  right: int
  listed: tuple[str, ...]
  length: float  # Seconds that are shown; 0 if unknown.


class BlindPool:
  """The questions with the smallest digests, for any order of files."""

  def __init__(self, most: int):
    self.most = most
    self._heaps: dict[tuple[str, str], list[tuple[int, BlindQuestion]]] = {}

  def add(self, question: AskedQuestion, name: str) -> None:
    """Adds a choice question; the pool keeps the smallest digests."""
    if question.right == NOT_GIVEN:
      return
    text = f"{name}\x1f{question.key}\x1f{question.stem}".encode("utf-8", "surrogateescape")
    digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    seen = BlindQuestion(
      question.key,
      question.stem,
      question.options,
      question.right,
      question.listed,
      _shown_seconds(question),
    )
    self._push((question.task, question.source), digest, seen)

  def merge(self, other: "BlindPool") -> None:
    """Adds the questions of another pool."""
    for group, heap in other._heaps.items():
      for negative, question in heap:
        self._push(group, -negative, question)

  def groups(self) -> dict[tuple[str, str], Sequence[BlindQuestion]]:
    """(task, source) -> questions, in a fixed order."""
    groups: dict[tuple[str, str], Sequence[BlindQuestion]] = {}
    for group in sorted(self._heaps):
      rows = sorted(self._heaps[group], reverse=True)
      groups[group] = [question for _, question in rows]
    return groups

  def _push(self, group: tuple[str, str], digest: int, question: BlindQuestion) -> None:
    heap = self._heaps.setdefault(group, [])
    entry = (-digest, question)
    if len(heap) < self.most:
      heapq.heappush(heap, entry)
    elif -digest > heap[0][0]:
      heapq.heapreplace(heap, entry)


def _shown_seconds(question: AskedQuestion) -> float:
  """Seconds from the first to the last scene with known times."""
  if not question.media:
    return 0.0
  last = question.media[0][-1]
  return 0.0 if last.t1 is None else last.at + last.t1 - last.t0
