# SPDX-License-Identifier: Apache-2.0
"""Rules that prefer some options of a question, without having seen its video.

A rule gives every option a number, and the largest one is chosen. None: the rule does not apply to
this question, which then counts as guessed.
"""

from collections.abc import Callable, Sequence
import functools
import re

import numpy as np

from data_pipelines.synthesis.verify.asked import normal
from data_pipelines.synthesis.verify.blind_pool import BlindQuestion

Preferences = Sequence[float] | np.ndarray | None
Rule = Callable[[BlindQuestion], Preferences]

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:-|to|and) ?([0-9]+(?:\.[0-9]+)?)")
_ORDER = re.compile(r"[0-9]+(?: ?(?:->|,) ?[0-9]+)+")


@functools.lru_cache(1 << 16)
def words_of(text: str) -> frozenset[str]:
  """The words of a text."""
  return frozenset(normal(text).split())


def similarity(first: frozenset, second: frozenset) -> float:
  """Jaccard index of two sets."""
  union = len(first | second)
  return len(first & second) / union if union else 0.0


def order_of(option: str) -> tuple[int, ...]:
  """The numbers of an order of list items, or ()."""
  if not _ORDER.fullmatch(option.strip()):
    return ()
  return tuple(int(number) for number in re.findall("[0-9]+", option))


def span_of(option: str) -> tuple[float, float] | None:
  """The seconds of an option such as "1.0 - 2.5 seconds"."""
  if order_of(option):
    return None
  match = _SPAN.search(option)
  return (float(match[1]), float(match[2])) if match else None


def number_of(option: str) -> float | None:
  """The only number of an option, else None."""
  numbers = _NUMBER.findall(option)
  if len(numbers) != 1 or len(option.split()) > 3:
    return None
  return float(numbers[0])


def letter_rules(count: int) -> dict[str, Rule]:
  """Always the same letter."""
  return {
    f"letter {chr(ord('A') + place)}": functools.partial(_letter, place=place)
    for place in range(count)
  }


def _letter(question: BlindQuestion, place: int) -> Preferences:
  return [float(number == place) for number in range(len(question.options))]


def longest(question: BlindQuestion) -> Preferences:
  """The characters of an option."""
  return [float(len(option)) for option in question.options]


def shortest(question: BlindQuestion) -> Preferences:
  """Few characters."""
  return [-float(len(option)) for option in question.options]


def like_stem(question: BlindQuestion) -> Preferences:
  """Shared words with the question."""
  stem = words_of(question.stem)
  return [similarity(words_of(option), stem) for option in question.options]


def unlike_stem(question: BlindQuestion) -> Preferences:
  """Few shared words with the question."""
  return opposite(like_stem(question))


def central(question: BlindQuestion) -> Preferences:
  """Likeness to the other options."""
  kinds: list = [order_of(option) for option in question.options]
  if all(kinds):
    return _total_agreement(kinds, _concordance)
  kinds = [span_of(option) for option in question.options]
  if None not in kinds:
    return _total_agreement(kinds, _closeness)
  numbers = [number_of(option) for option in question.options]
  if None not in numbers:
    return _total_agreement([(number,) for number in numbers], _closeness)
  return _total_agreement([words_of(option) for option in question.options], similarity)


def outlying(question: BlindQuestion) -> Preferences:
  """Difference from the other options."""
  return opposite(central(question))


def _total_agreement(values: Sequence, agreement: Callable) -> list[float]:
  """The agreement of every value with all others, summed."""
  totals = []
  for number, value in enumerate(values):
    others = [*values[:number], *values[number + 1 :]]
    total = sum(agreement(value, other) for other in others)
    totals.append(round(total, 9))
  return totals


def _closeness(first: Sequence[float], second: Sequence[float]) -> float:
  """The negative sum of the distances between two lists of numbers."""
  return -sum(abs(a - b) for a, b in zip(first, second, strict=True))


def _concordance(first: Sequence[int], second: Sequence[int]) -> float:
  """Pairs that stand in the same order in both."""
  places = {item: place for place, item in enumerate(second)}
  count = 0
  for early in range(len(first)):
    for late in range(early + 1, len(first)):
      count += places.get(first[early], -1) < places.get(first[late], -1)
  return float(count)


def smallest_number(question: BlindQuestion) -> Preferences:
  """The smallest of the numbers."""
  return opposite(largest_number(question))


def largest_number(question: BlindQuestion) -> Preferences:
  """The largest of the numbers."""
  numbers = []
  for option in question.options:
    number = number_of(option)
    if number is None:
      return None
    numbers.append(number)
  return numbers


def middle_number(question: BlindQuestion) -> Preferences:
  """A number with as many above as below it."""
  numbers = largest_number(question)
  if numbers is None:
    return None
  places = np.argsort(np.argsort(numbers))
  return -np.abs(places - (len(places) - 1) / 2)


def earliest_span(question: BlindQuestion) -> Preferences:
  """The span that begins first."""
  return opposite(latest_span(question))


def latest_span(question: BlindQuestion) -> Preferences:
  """The span that begins last."""
  spans = _spans(question)
  return None if spans is None else spans[:, 0]


def longest_span(question: BlindQuestion) -> Preferences:
  """The span that lasts longest."""
  spans = _spans(question)
  return None if spans is None else spans[:, 1] - spans[:, 0]


def shortest_span(question: BlindQuestion) -> Preferences:
  """The span that is over first."""
  return opposite(longest_span(question))


def middle_span(question: BlindQuestion) -> Preferences:
  """A span with as many before as after it."""
  spans = _spans(question)
  if spans is None:
    return None
  places = np.argsort(np.argsort(spans[:, 0], kind="stable"))
  return -np.abs(places - (len(places) - 1) / 2)


def _spans(question: BlindQuestion) -> np.ndarray | None:
  """float [options 2]: starts and ends."""
  spans = [span_of(option) for option in question.options]
  return None if None in spans else np.array(spans)


def listing_order(question: BlindQuestion) -> Preferences:
  """Agreement with the order in which the question lists its items."""
  orders = [order_of(option) for option in question.options]
  if not all(orders):
    return None
  return [_concordance(order, sorted(order)) for order in orders]


def reversed_listing(question: BlindQuestion) -> Preferences:
  """Disagreement with the order of the list."""
  return opposite(listing_order(question))


def opposite(preferences: Preferences) -> Preferences:
  """The preferences of an attack that prefers what another one avoids."""
  return None if preferences is None else [-number for number in preferences]


RULES: dict[str, Rule] = {
  "longest option": longest,
  "shortest option": shortest,
  "most like the question": like_stem,
  "least like the question": unlike_stem,
  "nearest to the others": central,
  "farthest from the others": outlying,
  "smallest number": smallest_number,
  "middle number": middle_number,
  "largest number": largest_number,
  "earliest span": earliest_span,
  "middle span": middle_span,
  "latest span": latest_span,
  "shortest span": shortest_span,
  "longest span": longest_span,
  "order of the list": listing_order,
  "reversed list": reversed_listing,
}
