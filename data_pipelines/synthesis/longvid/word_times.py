# SPDX-License-Identifier: Apache-2.0
"""When the words of a label usually occur in a video.

A ridge regression predicts the relative time of a label from its words: "chop" comes before
"serve". It shows what can be guessed without the video. It is deterministic: features in a fixed
order, float64 sums in the order of the data, no BLAS, and weights rounded to DECIMALS.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import functools
import itertools

import numpy as np

from data_pipelines.synthesis.longvid.event_texts import normalised_label

DECIMALS = 5
RARE = 3  # Features that occur less often are left out.
MOST_FEATURES = 50_000
RIDGE = 2.0
STEPS = 30  # Of conjugate gradients.
_REMEMBERED = 100_000  # Labels.


@functools.lru_cache(_REMEMBERED)
def label_features(label: str) -> list[str]:
  """The words of a label and its pairs of neighbouring words."""
  words = normalised_label(label).split()
  pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
  return words + pairs


def fit_word_times(labels: Sequence[str], times: Sequence[float]) -> dict[str, float]:
  """The weight of every feature.

  times: of each label, from 0 (the beginning of its video) to 1.
  """
  rows = [label_features(label) for label in labels]
  columns = _feature_columns(rows)
  if not columns:
    return {}
  row_numbers = []
  column_numbers = []
  for number, row in enumerate(rows):
    for feature in row:
      if feature in columns:
        row_numbers.append(number)
        column_numbers.append(columns[feature])
  target = np.asarray(times, np.float64) - 0.5
  weights = _ridge(np.asarray(row_numbers), np.asarray(column_numbers), target, len(columns))
  rounded = np.round(weights, DECIMALS).tolist()
  return dict(zip(columns, rounded, strict=True))


def label_time(label: str, weights: Mapping[str, float]) -> float:
  """When a label usually occurs; only differences mean something."""
  total = 0.0
  for feature in label_features(label):
    total += weights.get(feature, 0.0)
  return total


class LabelTimes:
  """When text alone expects labels; only differences mean something.

  Whole numbers in units of 10^-DECIMALS, since equally likely orders must have equal sums. They are
  remembered: sources repeat labels.
  """

  def __init__(self, weights: Mapping[str, float]):
    self._weights = weights
    self.time = functools.lru_cache(_REMEMBERED)(self._time)

  def _time(self, label: str) -> int:
    return round(label_time(label, self._weights) * 10**DECIMALS)


def _feature_columns(rows: Sequence[Sequence[str]]) -> dict[str, int]:
  """Frequent features, the most frequent first, with their numbers."""
  counts: Counter[str] = Counter()
  for row in rows:
    counts.update(row)
  frequent = sorted((-count, feature) for feature, count in counts.items() if count >= RARE)
  return {feature: number for number, (_, feature) in enumerate(frequent[:MOST_FEATURES])}


def _ridge(rows: np.ndarray, columns: np.ndarray, target: np.ndarray, width: int) -> np.ndarray:
  """Solves (XᵀX + RIDGE) w = Xᵀ target for a sparse X."""

  def transposed(values: np.ndarray) -> np.ndarray:
    return np.bincount(columns, values[rows], width)

  def applied(weights: np.ndarray) -> np.ndarray:
    products = np.bincount(rows, weights[columns], len(target))
    return transposed(products) + RIDGE * weights

  weights = np.zeros(width)
  residual = transposed(target)
  direction = residual
  size = (residual * residual).sum()
  for _ in range(STEPS):
    if size < 1e-18:
      break
    product = applied(direction)
    step = size / (direction * product).sum()
    weights = weights + step * direction
    residual = residual - step * product
    next_size = (residual * residual).sum()
    direction = residual + next_size / size * direction
    size = next_size
  return weights
