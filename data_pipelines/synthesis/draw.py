# SPDX-License-Identifier: Apache-2.0
"""Random draws that depend only on a seed and on names.

The names of a draw say what it is for, such as ("options", question id). The result does not depend
on the number of processes, on the order of inputs, or on the versions of Python and NumPy.
"""

from collections.abc import Iterable, Iterator, Sequence
import hashlib
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
_BLOCK_BYTES = 64  # Size of a digest from which several draws are taken.
# A digest below this number is replaced by the next one: a draw of up to 64 bits from it would no
# longer be even.
_ENOUGH = 1 << 128
_SEPARATOR = "\x1f"  # Between names.


def digest(seed: int, *names: object) -> int:
  """The first 64 bits of the sha256 of a seed and names."""
  text = _joined(seed, *names)
  sha = hashlib.sha256(text.encode()).digest()
  return int.from_bytes(sha[:8], "big")


def digests(items: Iterable[object], seed: int, *names: object) -> np.ndarray:
  """`digest(seed, *names, item)` of every item, as u64."""
  start = _joined(seed, *names, "")
  hash_of_start = hashlib.sha256(start.encode())
  parts = []
  for item in items:
    hash_of_item = hash_of_start.copy()
    hash_of_item.update(str(item).encode())
    parts.append(hash_of_item.digest()[:8])
  return np.frombuffer(b"".join(parts), ">u8").astype(np.uint64)


def unit(seed: int, *names: object) -> float:
  """A number in [0, 1), of 53 random bits."""
  return (digest(seed, *names) >> 11) / (1 << 53)


def below(limit: int, seed: int, *names: object) -> int:
  """A whole number from 0 to limit - 1."""
  return digest(seed, *names) * limit >> 64


def choose(items: Sequence[Item], seed: int, *names: object) -> Item:
  """One of the items."""
  return items[below(len(items), seed, *names)]


def shuffled(items: Sequence[Item], seed: int, *names: object) -> list[Item]:
  """The items in random order."""
  order = sorted(range(len(items)), key=lambda place: digest(seed, *names, place))
  return [items[place] for place in order]


def _joined(*names: object) -> str:
  return _SEPARATOR.join(map(str, names))


class Draws:
  """A sequence of draws with the same seed and names.

  A long digest is read as a number, and each draw takes its next digit, to the base of the draw's
  limit. When the digest is used up, the next one follows.
  """

  __slots__ = ("_blocks", "_digits", "_name")

  def __init__(self, seed: int, *names: object):
    self._name = _joined(seed, *names)
    self._blocks = 0  # Digests that have been computed.
    self._digits = 0  # What is left of the last digest.

  def below(self, limit: int) -> int:
    """A whole number from 0 to limit - 1.

    limit: a number of at most 64 bits.
    """
    digits = self._digits
    if digits < _ENOUGH:
      digits = self._next_block()
    self._digits, drawn = divmod(digits, limit)
    return drawn

  def unit(self) -> float:
    """A number in [0, 1)."""
    return self.below(1 << 53) / (1 << 53)

  def choose(self, items: Sequence[Item]) -> Item:
    """One of the items."""
    return items[self.below(len(items))]

  def places(self, count: int) -> Iterator[int]:
    """Yields the numbers 0 to count - 1 in random order.

    A number is drawn when it is asked for.
    """
    remaining = list(range(count))
    for size in range(count, 0, -1):
      place = self.below(size)
      yield remaining[place]
      remaining[place] = remaining[size - 1]

  def sample(self, items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items in random order, without repetition.

    If there are fewer items, all of them.
    """
    remaining = list(items)
    size = len(remaining)
    stop = size - count - 1 if size > count else 0
    drawn = []
    digits = self._digits  # A local variable, because this loop is called very often.
    for last in range(size - 1, stop, -1):
      if digits < _ENOUGH:
        digits = self._next_block()
      digits, place = divmod(digits, last + 1)
      drawn.append(remaining[place])
      remaining[place] = remaining[last]
    self._digits = digits
    if 0 < size <= count:
      drawn.append(remaining[0])
    return drawn

  def shuffled(self, items: Sequence[Item]) -> list[Item]:
    """The items in random order."""
    return self.sample(items, len(items))

  def _next_block(self) -> int:
    """The next digest as a number."""
    name = f"{self._name}{_SEPARATOR}{self._blocks}"
    block = hashlib.shake_256(name.encode()).digest(_BLOCK_BYTES)
    self._blocks += 1
    return int.from_bytes(block, "big")
