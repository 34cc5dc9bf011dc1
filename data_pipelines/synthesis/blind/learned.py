# SPDX-License-Identifier: Apache-2.0
"""Attacks that learn to guess answers without the video.

They learn from the questions of some videos and are scored on those of other videos. Questions are
divided into folds by source video, so that no attack is scored on a video that it learned from.
"""

from collections.abc import Callable, Iterator, Sequence
import itertools
import zlib

import numpy as np

from data_pipelines.synthesis.blind.preferences import Preferences, order_of, span_of
from data_pipelines.synthesis.blind.ridge import (
  SparseRows,
  crossed,
  feature_numbers,
  fit_ridge,
)
from data_pipelines.synthesis.verify.asked import normal
from data_pipelines.synthesis.verify.blind_pool import BlindQuestion

FOLDS = 5
LEAST_VIDEOS = 20  # With fewer videos, the attacks have too little to learn from.
_WORDS = 10  # The number of words of a question or option that are used.
_RIDGE = 1.0

Features = Callable[[str], np.ndarray]


def fold_of(key: str) -> int:
  """The fold of a source video."""
  return zlib.crc32(key.encode("utf-8", "surrogateescape")) % FOLDS


def _folds(questions: Sequence[BlindQuestion]) -> np.ndarray | None:
  """The fold of each question; None for too few videos."""
  if len({question.key for question in questions}) < LEAST_VIDEOS:
    return None
  return np.array([fold_of(question.key) for question in questions])


def word_preferences(questions: Sequence[BlindQuestion]) -> list[Preferences]:
  """Preferences of a linear model.

  Its features are the words of an option, and pairs of these words and words of the stem.
  """
  folds = _folds(questions)
  if folds is None:
    return [None] * len(questions)
  rows = SparseRows(_option_features(questions))
  counts = np.array([len(question.options) for question in questions])
  row_folds = np.repeat(folds, counts)
  target = np.concatenate(list(map(_centred_target, questions)))
  first = np.cumsum(counts) - counts
  predicted = np.zeros(len(rows))
  for fold in range(FOLDS):
    weights = fit_ridge(rows, target, row_folds != fold, _RIDGE)
    scored = row_folds == fold
    predicted[scored] = rows.products(weights)[scored]
  return [predicted[start : start + count] for start, count in zip(first, counts, strict=True)]


def _centred_target(question: BlindQuestion) -> np.ndarray:
  """1 for the right option, else 0, minus the mean."""
  target = np.full(len(question.options), -1 / len(question.options))
  target[question.right] += 1
  return target


def _option_features(questions: Sequence[BlindQuestion]) -> Iterator[np.ndarray]:
  """The words of each option, and their pairs with stem words."""
  for question in questions:
    stem = feature_numbers(sorted(set(normal(question.stem).split()))[:_WORDS])
    for option in question.options:
      words = normal(option).split()[:_WORDS]
      placed = [f"{place}:{word}" for place, word in enumerate(words)]
      pairs = [" ".join(pair) for pair in itertools.pairwise(words)]
      own = feature_numbers([*words, *placed, *pairs, f"#{len(words)}"])
      crossing = crossed(stem, feature_numbers(words))
      yield np.concatenate([own, crossing])


def text_features(text: str) -> np.ndarray:
  """Words and pairs of neighbouring words."""
  words = normal(text).split()
  pairs = [" ".join(pair) for pair in itertools.pairwise(words)]
  return feature_numbers([*words, *pairs])


def affix_features(text: str) -> np.ndarray:
  """Beginnings and endings of words, and pairs of words."""
  features = []
  words = normal(text).split()
  for word in words:
    features += [f"{word[:3]}-", f"-{word[-3:]}", f"{word[:5]}--"]
  features += [" ".join(pair) for pair in itertools.pairwise(words)]
  return feature_numbers(features)


def order_preferences(questions: Sequence[BlindQuestion], features: Features) -> list[Preferences]:
  """Preferences by the usual time of items, learned from right orders."""
  folds = _folds(questions)
  usable = list(map(_has_order, questions))
  if folds is None or not any(usable):
    return [None] * len(questions)
  items = []
  item_folds = []
  target = []
  for number in np.flatnonzero(usable).tolist():
    question = questions[number]
    order = order_of(question.options[question.right])
    for place, item in enumerate(question.listed, 1):
      items.append(features(item))
      item_folds.append(folds[number])
      target.append(order.index(place) / (len(order) - 1) - 0.5)
  times = _predicted(items, np.array(item_folds), np.array(target))
  preferences: list[Preferences] = [None] * len(questions)
  first = 0
  for number in np.flatnonzero(usable).tolist():
    question = questions[number]
    item_times = times[first : first + len(question.listed)]
    first += len(question.listed)
    preferences[number] = [_agreement(option, item_times) for option in question.options]
  return preferences


def _has_order(question: BlindQuestion) -> bool:
  """Whether the right option is an order of the question's list."""
  order = order_of(question.options[question.right])
  return len(order) > 1 and sorted(order) == list(range(1, len(question.listed) + 1))


def _predicted(items: Sequence[np.ndarray], folds: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Predictions for every item by a model of the other folds."""
  rows = SparseRows(items)
  predicted = np.zeros(len(rows))
  for fold in range(FOLDS):
    weights = fit_ridge(rows, target, folds != fold, _RIDGE)
    scored = folds == fold
    predicted[scored] = rows.products(weights)[scored]
  return predicted


def _agreement(option: str, times: np.ndarray) -> float:
  """How well an option agrees with the predicted times of items."""
  order = order_of(option)
  if sorted(order) != list(range(1, len(times) + 1)):
    return -np.inf
  in_order = times[np.array(order) - 1]
  places = np.arange(len(order)) - (len(order) - 1) / 2
  return round(float(places @ in_order), 9)


def span_preferences(questions: Sequence[BlindQuestion]) -> list[Preferences]:
  """Preferences by the usual time of events, learned from right spans."""
  folds = _folds(questions)
  middles = dict[int, np.ndarray]()
  for number, question in enumerate(questions):
    shares = _middles(question)
    if shares is not None:
      middles[number] = shares
  if folds is None or not middles:
    return [None] * len(questions)
  texts = []
  target = []
  for number, shares in middles.items():
    texts.append(text_features(questions[number].stem))
    target.append(shares[questions[number].right] - 0.5)
  predicted = _predicted(texts, folds[list(middles)], np.array(target))
  preferences: list[Preferences] = [None] * len(questions)
  for (number, shares), time in zip(middles.items(), predicted, strict=True):
    preferences[number] = -np.abs(shares - 0.5 - time)
  return preferences


def _middles(question: BlindQuestion) -> np.ndarray | None:
  """The middles of the offered spans, as shares of the length."""
  spans = list(map(span_of, question.options))
  if None in spans:
    return None
  seconds = np.array(spans)
  length = question.length or float(seconds.max()) or 1.0
  return seconds.mean(axis=1) / length
