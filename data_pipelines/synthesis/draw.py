# SPDX-License-Identifier: Apache-2.0
"""Random draws that depend on names alone.

A draw is a function of a seed, a purpose and an id: the same for any number of processes, order of
inputs, Python and NumPy.
"""

from collections.abc import Sequence
import hashlib
from typing import TypeVar

Item = TypeVar("Item")
_KEY_BYTES = 8


def digest(seed: int, *names: object) -> int:
  """64 bits of the sha256 of a seed and names."""
  text = "\x1f".join(map(str, (seed, *names)))
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


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
