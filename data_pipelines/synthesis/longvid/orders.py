# SPDX-License-Identifier: Apache-2.0
"""Options that are orders of events, which cannot be guessed from their texts.

A model that sees only texts finds some orders likelier than others (`BlindGuard`). The rank of the
right order is the number of wrong options that this model finds likelier. The rank is drawn evenly,
and the wrong orders are drawn to match it. Events are used only if every rank is possible with
them. Otherwise low ranks would be more frequent where the model is mostly right.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

from data_pipelines.synthesis.draw import Draws
from data_pipelines.synthesis.longvid.event_texts import order_text
from data_pipelines.synthesis.longvid.shown_parts import ShownPart

OPTIONS = 4
LENGTHS = (3, 4, 5)  # Items of an order question.
TRIES = 9  # Draws of items until every rank is possible; more find hardly any.


@dataclasses.dataclass
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
  draws: Draws,
  draw_items: Callable[[int], list[int]],
  usual_times: Mapping[int, int],
) -> DrawnOrder | None:
  """A question about an order of a drawn rank.

  None if not every rank is possible.

  draw_items: count -> places in time order, of fewer items if there are no more.
  usual_times: place -> when text alone expects it.
  """
  rank = draws.below(OPTIONS)
  first_length = draws.below(len(LENGTHS))
  waiting = set(range(OPTIONS))
  drawn = None
  for attempt in range(TRIES):
    chosen = draw_items(LENGTHS[(first_length + attempt) % len(LENGTHS)])
    if len(chosen) < LENGTHS[0]:
      return None
    times = [usual_times[place] for place in chosen]
    possible = _possible_ranks(times)
    if drawn is None and rank in possible:
      drawn = chosen, times
    waiting.difference_update(possible)
    if not waiting:
      break
  if waiting or drawn is None:
    return None
  return _listed_order(draws, *drawn, rank)


def _listed_order(
  draws: Draws, chosen: Sequence[int], times: Sequence[int], rank: int
) -> DrawnOrder:
  """The question with a shuffled list, and drawn wrong orders."""
  likelier, less_likely = _ranked_orders(_differences(times))
  orders = draws.sample(likelier, rank)
  orders += draws.sample(less_likely, OPTIONS - 1 - rank)
  count = len(chosen)
  shuffle = draws.shuffled(range(count))
  number_of = [0] * count
  for number, item in enumerate(shuffle):
    number_of[item] = number
  permutations = _permutations(count)
  wrong = []
  for order in orders:
    wrong.append(order_text(tuple(map(number_of.__getitem__, permutations[order]))))
  listed = tuple(chosen[item] for item in shuffle)
  right = order_text(tuple(number_of))
  return DrawnOrder(tuple(chosen), listed, right, tuple(wrong), rank)


def _differences(times: Sequence[int]) -> np.ndarray:
  """float64 [P]: how much likelier each order is than the first.

  Whole numbers. times: when text alone expects each item.
  """
  return _later_places(len(times)).dot(np.array(times, np.float64))


def _possible_ranks(times: Sequence[int]) -> range:
  """The ranks that the first order can have.

  Equally likely orders are on either side in turn.
  """
  if len(times) == LENGTHS[-1] and _swaps_give_all_ranks(times):
    return range(OPTIONS)
  differences = _differences(times).tolist()
  differences.sort()
  less_likely = bisect.bisect_left(differences, 0)
  likelier = len(differences) - bisect.bisect_right(differences, 0)
  equal = len(differences) - 1 - likelier - less_likely
  likelier += (equal + 1) // 2
  less_likely += equal // 2
  return range(max(0, OPTIONS - 1 - less_likely), min(likelier, OPTIONS - 1) + 1)


def _swaps_give_all_ranks(times: Sequence[int]) -> bool:
  """Whether swaps of two items alone make every rank possible.

  A swap is likelier than the first order if text expects the second of the two items earlier. Most
  fives of items need no array of all their orders.
  """
  likelier = 0
  less_likely = 0
  for first, second in itertools.combinations(times, 2):
    if first > second:
      likelier += 1
    elif first < second:
      less_likely += 1
  return likelier >= OPTIONS - 1 and less_likely >= OPTIONS - 1


def _ranked_orders(differences: np.ndarray) -> tuple[list[int], list[int]]:
  """The numbers of likelier and of less likely orders."""
  likelier = (differences > 0).nonzero()[0].tolist()
  less_likely = (differences < 0).nonzero()[0].tolist()
  if len(likelier) + len(less_likely) + 1 < len(differences):
    equal = (differences == 0).nonzero()[0].tolist()[1:]
    likelier += equal[::2]
    less_likely += equal[1::2]
  return likelier, less_likely


@functools.cache
def _permutations(count: int) -> list[tuple[int, ...]]:
  """All orders; the first is 0, 1, 2, …"""
  return list(itertools.permutations(range(count)))


@functools.cache
def _later_places(count: int) -> np.ndarray:
  """float64 [P count].

  How much later every item is in each order than in the first.
  """
  places = np.argsort(np.array(_permutations(count)), axis=1)
  return (places - np.arange(count)).astype(np.float64)
