# SPDX-License-Identifier: Apache-2.0
"""Random draws that depend on names alone.

A draw is a function of a seed, a purpose and an id: the same for any number of processes, order of
inputs, Python and NumPy.
"""

from collections.abc import Iterable, Iterator, Sequence
import hashlib
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
_KEY_BYTES = 8
_BLOCK_BYTES = 64  # Of a digest that several draws share.
_ENOUGH = 1 << 128  # A digest below it is used up: more draws of up to 64 bits would be uneven.


def digest(seed: int, *names: object) -> int:
  """64 bits of the sha256 of a seed and names."""
  text = "\x1f".join(map(str, (seed, *names)))
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def digests(items: Iterable[object], seed: int, *names: object) -> np.ndarray:
  """`digest` of every item, as u64.

  All have the same seed and names; the item is the last name.
  """
  start = "\x1f".join(map(str, (seed, *names, "")))
  head = hashlib.sha256(start.encode())
  parts = []
  for item in items:
    rest = head.copy()
    rest.update(str(item).encode())
    parts.append(rest.digest()[:8])
  return np.frombuffer(b"".join(parts), ">u8").astype(np.uint64)


def unit(seed: int, *names: object) -> float:
  """A number in [0, 1)."""
  return (digest(seed, *names) >> 11) / (1 << 53)


def below(limit: int, seed: int, *names: object) -> int:
  """A whole number from 0 to limit - 1."""
  return digest(seed, *names) * limit >> 64


def choose(items: Sequence[Item], seed: int, *names: object) -> Item:
  """One of the items."""
  return items[below(len(items), seed, *names)]


def shuffled(items: Sequence[Item], seed: int, *names: object) -> list[Item]:
  """The items in a drawn order."""
  order = sorted(range(len(items)), key=lambda place: digest(seed, *names, place))
  return [items[place] for place in order]


def drawn_places(count: int, seed: int, *names: object) -> list[int]:
  """The numbers 0 to count - 1 in a drawn order."""
  text = "\x1f".join(map(str, (seed, *names)))
  digests = hashlib.shake_256(text.encode()).digest(_KEY_BYTES * count)
  keys = []
  for start in range(0, len(digests), _KEY_BYTES):
    keys.append(digests[start : start + _KEY_BYTES])
  return sorted(range(count), key=keys.__getitem__)


class Draws:
  """Draws of one name, in order.

  They are the digits of one digest, which is continued where it ends.
  """

  __slots__ = ("_blocks", "_digits", "_name")

  def __init__(self, seed: int, *names: object):
    self._name = "\x1f".join(map(str, (seed, *names)))
    self._blocks = 0
    self._digits = 0

  def below(self, limit: int) -> int:
    """A whole number from 0 to limit - 1.

    limit: of at most 64 bits.
    """
    if self._digits < _ENOUGH:
      self._next_block()
    self._digits, drawn = divmod(self._digits, limit)
    return drawn

  def unit(self) -> float:
    """A number in [0, 1)."""
    return self.below(1 << 53) / (1 << 53)

  def choose(self, items: Sequence[Item]) -> Item:
    """One of the items."""
    return items[self.below(len(items))]

  def places(self, count: int) -> Iterator[int]:
    """The numbers 0 to count - 1 in a drawn order.

    They are drawn as they are read.
    """
    remaining = list(range(count))
    for size in range(count, 0, -1):
      place = self.below(size)
      yield remaining[place]
      remaining[place] = remaining[size - 1]

  def sample(self, items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, or all of fewer, without repetition."""
    remaining = list(items)
    size = len(remaining)
    stop = size - count - 1 if size > count else 0
    drawn = []
    digits = self._digits
    for last in range(size - 1, stop, -1):
      if digits < _ENOUGH:
        self._next_block()
        digits = self._digits
      digits, place = divmod(digits, last + 1)
      drawn.append(remaining[place])
      remaining[place] = remaining[last]
    self._digits = digits
    if 0 < size <= count:
      drawn.append(remaining[0])
    return drawn

  def shuffled(self, items: Sequence[Item]) -> list[Item]:
    """The items in a drawn order."""
    return self.sample(items, len(items))

  def _next_block(self) -> None:
    name = f"{self._name}\x1f{self._blocks}"
    self._digits = int.from_bytes(hashlib.shake_256(name.encode()).digest(_BLOCK_BYTES), "big")
    self._blocks += 1
