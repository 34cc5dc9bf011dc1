# SPDX-License-Identifier: Apache-2.0
"""Orders as options: wrong ones are drawn so that text alone finds the right one at chance.

A rank is drawn; so many of the wrong orders are likelier than the right one to a model that sees
text alone, and the others less likely (`BlindGuard`).
"""

from collections.abc import Sequence
import functools
import itertools

import numpy as np

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import order_text

OPTIONS = 4
LENGTHS = (3, 4, 5)  # Items of an order question.
TRIES = 20  # Draws of items for one rank.
_SAME = 1e-9  # Scores closer than this are equal.


@functools.cache
def _permutations(count: int) -> list[tuple[int, ...]]:
  return list(itertools.permutations(range(count)))


@functools.cache
def _positions(count: int) -> np.ndarray:
  """float64 [P count]: the place of every item in every permutation, around 0."""
  places = np.argsort(np.array(_permutations(count)), axis=1)
  return places - (count - 1) / 2


def wrong_orders(
  right: Sequence[int], usual_times: Sequence[float], rank: int, seed: int, *names: object
) -> list[tuple[int, ...]] | None:
  """Three wrong orders of list items, `rank` of them likelier than the right one.

  right: item numbers in the right order. usual_times: of every item, from text alone. None if there
  are not enough likelier or less likely ones.
  """
  count = len(right)
  orders = _permutations(count)
  times = np.asarray(usual_times, np.float64)
  likelihood = (_positions(count) * times).sum(axis=1)
  number = orders.index(tuple(right))
  difference = likelihood - likelihood[number]
  equal = np.flatnonzero(np.abs(difference) <= _SAME).tolist()
  equal.remove(number)
  likelier = np.flatnonzero(difference > _SAME).tolist()
  less_likely = np.flatnonzero(difference < -_SAME).tolist()
  fewer = OPTIONS - 1 - rank
  for place, other in enumerate(equal):  # An equal order may stand on either side.
    side = likelier if place % 2 else less_likely
    side.append(other)
  if len(likelier) < rank or len(less_likely) < fewer:
    return None
  chosen = _drawn(likelier, rank, seed, "likelier", *names)
  chosen += _drawn(less_likely, fewer, seed, "less likely", *names)
  return [orders[other] for other in chosen]


def _drawn(numbers: list[int], count: int, seed: int, *names: object) -> list[int]:
  """`count` of the numbers, drawn one by one; empties the list."""
  drawn = []
  for turn in range(count):
    place = draw.below(len(numbers), seed, turn, *names)
    drawn.append(numbers.pop(place))
  return drawn


def order_options(right: Sequence[int], wrong: Sequence[Sequence[int]]) -> tuple[str, tuple]:
  """(right option, wrong options) in words."""
  return order_text(right), tuple(order_text(order) for order in wrong)
