# SPDX-License-Identifier: Apache-2.0
"""Texts of events.

Says whether two texts mean the same or are too general, and writes spans in words.
"""

from collections.abc import Sequence
import functools
import re

from data_pipelines.synthesis import draw
from data_pipelines.synthesis.question_templates import ITEM, ORDER_ARROW, SPAN, STEMS

SAME = 0.5  # Jaccard index of the words from which two labels count as the same.
# Labels that fit many moments of most videos.
GENERIC = frozenset(
  {
    *("finish", "finished", "serve", "serve warm", "serve hot", "enjoy", "done", "ready"),
    *("look around", "the camera wearer looks around", "stand", "walk", "talk", "speak"),
    *("serve and enjoy", "mix", "stir", "cook", "introduction", "outro", "intro", "end"),
  }
)
_WORD = re.compile(r"\w+")
_STOP = frozenset(
  "a an the of to in on at and or is are with it its this that into from camera wearer".split()
)
_REMEMBERED = 100_000


def normalised_text(text: str) -> str:
  """A text as its words in lower case."""
  return " ".join(_WORD.findall(text.lower()))


@functools.lru_cache(_REMEMBERED)
def normalised_label(text: str) -> str:
  """`normalised_text` of a short text, remembered."""
  return normalised_text(text)


@functools.lru_cache(_REMEMBERED)
def content_words(text: str) -> frozenset[str]:
  """The words of a text.

  Without the most common ones if others remain.
  """
  words = frozenset(normalised_label(text).split())
  return words - _STOP or words


def are_alike(first: str, second: str) -> bool:
  """Whether two labels may mean the same."""
  words = content_words(first)
  others = content_words(second)
  common = len(words & others)
  return common >= SAME * (len(words) + len(others) - common)


@functools.lru_cache(_REMEMBERED)
def is_generic(label: str) -> bool:
  """Whether a label is empty or fits most videos."""
  text = normalised_label(label)
  return not text or text in GENERIC


def unique_labels(labels: Sequence[str]) -> list[bool]:
  """Whether each label is like no other one and not generic."""
  labels_of: dict[str, list[int]] = {}  # A word -> the earlier labels with it.
  unique = [not is_generic(label) for label in labels]
  sizes: list[int] = []
  for number, label in enumerate(labels):
    words = content_words(label)
    common: dict[int, int] = {}  # An earlier label -> the words that it shares.
    for word in words:
      others = labels_of.setdefault(word, [])
      for other in others:
        common[other] = common.get(other, 0) + 1
      others.append(number)
    size = len(words)
    sizes.append(size)
    for other, count in common.items():
      if count >= SAME * (size + sizes[other] - count):
        unique[number] = unique[other] = False
  return unique


def drawn_stem(draws: draw.Draws, task: str, **fields: str) -> str:
  """A question of a task in a drawn wording."""
  stem = draws.choose(STEMS[task])
  return stem.format(**fields)


def numbered_list(labels: Sequence[str]) -> str:
  """Labels as the lines 1., 2., …"""
  lines = []
  for number, label in enumerate(labels, 1):
    lines.append(ITEM.format(number=number, label=label))
  return "".join(lines)


@functools.cache  # All orders of five are 120.
def order_text(numbers: tuple[int, ...]) -> str:
  """An order of list numbers from 0 in words.

  (1, 0) is "2 -> 1".
  """
  return ORDER_ARROW.join(str(number + 1) for number in numbers)


def span_text(start: float, end: float) -> str:
  """A time span in seconds.

  The same form for right and wrong ones.
  """
  return SPAN.format(start=start, end=end)
