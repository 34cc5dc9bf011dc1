# SPDX-License-Identifier: Apache-2.0
"""Orders as options.

Wrong ones are drawn so that text alone finds the right one at chance.

A rank is drawn; so many of the wrong orders are likelier than the right one to a model that sees
text alone, and the others less likely (`BlindGuard`). Items are used only where every rank would
have been possible: otherwise low ranks would be more frequent where the model is mostly right.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.longvid.event_texts import order_text
from data_pipelines.synthesis.longvid.shown_parts import ShownPart

OPTIONS = 4
LENGTHS = (3, 4, 5)  # Items of an order question.
TRIES = 20  # Draws of items until every rank is possible.
_SAME = 1e-9  # Likelihoods closer than this are equal.


@dataclasses.dataclass(frozen=True)
class DrawnOrder:
  """Items in the order of the list, and the options."""

  chosen: tuple[int, ...]  # Places in the shown part, in time order.
  listed: tuple[int, ...]
  right: str
  wrong: tuple[str, ...]
  rank: int  # Wrong orders that are likelier from text alone.

  def origin(self, part: ShownPart) -> dict[str, Any]:
    """How the question was derived."""
    return dict(
      part=part.number,
      events=[part.numbers[place] for place in self.chosen],
      listed=[part.numbers[place] for place in self.listed],
      rank=self.rank,
    )


def balanced_order(
  draw_items: Callable[[int], list[int]],
  usual_time: Callable[[int], float],
  seed: int,
  *names: object,
) -> DrawnOrder | None:
  """A question about an order of a drawn rank.

  None if not every rank is possible.

  draw_items: number of the try -> places in time order. usual_time: place -> when text alone
  expects it.
  """
  rank = draw.below(OPTIONS, seed, "rank", *names)
  waiting = set(range(OPTIONS))
  drawn = None
  for attempt in range(TRIES):
    chosen = draw_items(attempt)
    if len(chosen) < LENGTHS[0]:
      return None
    times = [usual_time(place) for place in chosen]
    likelier, less_likely = ranked_orders(times)
    least = OPTIONS - 1 - len(less_likely)
    possible = range(max(0, least), min(len(likelier), OPTIONS - 1) + 1)
    if rank in possible and drawn is None:
      orders = _drawn(likelier, rank, seed, "likelier", *names)
      orders += _drawn(less_likely, OPTIONS - 1 - rank, seed, "less likely", *names)
      permutations = _permutations(len(chosen))
      wrong = [permutations[order] for order in orders]
      drawn = _listed_order(chosen, wrong, rank, seed, names)
    waiting.difference_update(possible)
    if not waiting:
      return drawn
  return None


def _listed_order(
  chosen: Sequence[int], orders: Sequence[Sequence[int]], rank: int, seed: int, names: tuple
) -> DrawnOrder:
  """The question with a shuffled list.

  `orders` are the wrong ones of the items in time order.
  """
  shuffle = draw.drawn_places(len(chosen), seed, "list", *names)
  number_of = {item: number for number, item in enumerate(shuffle)}
  right = order_text([number_of[item] for item in range(len(chosen))])
  wrong = []
  for order in orders:
    wrong.append(order_text([number_of[item] for item in order]))
  listed = tuple(chosen[item] for item in shuffle)
  return DrawnOrder(tuple(chosen), listed, right, tuple(wrong), rank)


def ranked_orders(times: Sequence[float]) -> tuple[list[int], list[int]]:
  """The numbers of likelier and of less likely orders.

  times: when text alone expects each item. Equally likely orders are on either side in turn.
  """
  count = len(times)
  likelihood = (_positions(count) * np.asarray(times)).sum(axis=1)
  difference = likelihood - likelihood[0]
  likelier = np.flatnonzero(difference > _SAME).tolist()
  less_likely = np.flatnonzero(difference < -_SAME).tolist()
  if len(likelier) + len(less_likely) + 1 < len(difference):
    equal = np.flatnonzero(np.abs(difference) <= _SAME).tolist()[1:]
    likelier += equal[::2]
    less_likely += equal[1::2]
  return likelier, less_likely


@functools.cache
def _permutations(count: int) -> list[tuple[int, ...]]:
  """All orders; the first is 0, 1, 2, …"""
  return list(itertools.permutations(range(count)))


@functools.cache
def _positions(count: int) -> np.ndarray:
  """float64 [P count].

  The place of every item in every order, around 0.
  """
  places = np.argsort(np.array(_permutations(count)), axis=1)
  return places - (count - 1) / 2


def _drawn(numbers: Sequence[int], count: int, seed: int, *names: object) -> list[int]:
  """`count` of the numbers, drawn without repetition."""
  remaining = list(numbers)
  drawn = []
  digits = draw.digest(seed, *names)  # 64 bits are enough for three of 120 orders.
  for _ in range(count):
    digits, place = divmod(digits, len(remaining))
    drawn.append(remaining.pop(place))
  return drawn
