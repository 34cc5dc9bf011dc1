# SPDX-License-Identifier: Apache-2.0
"""Averages over questions (micro), over groups (macro), and by a column of the records."""

from collections.abc import Iterable, Mapping, Sequence
import math
from typing import Any, TypeVar

from filax.evals.kit import Example, Metric, Score

Item = TypeVar("Item")
Averages = Mapping[str, float]
QUESTIONS = "questions"  # The number of scores of a group, beside its averages.


def group_scores(rows: Sequence[Item], column: str) -> dict[str, list[Item]]:
  """Value of a column -> its rows of answers, or its examples.

  A row with a list counts in each of its groups. Groups are in order of their names, or of their
  size if they are numbers; "" is the group of rows without a value.
  """
  return _grouped(rows, rows, column)


def group_averages(
  rows: Sequence[Any], scores: Sequence[Score], column: str, metric: Metric
) -> dict[str, dict[str, float]]:
  """Value of a column -> the metric's averages, and `questions`.

  `rows` are rows of answers or examples, one per score.
  """
  table = {}
  for label, group in _grouped(rows, scores, column).items():
    averages = metric.average(group)
    averages[QUESTIONS] = len(group)
    table[label] = averages
  return table


def column_labels(row: Mapping[str, Any] | Example, column: str) -> list[str]:
  """The groups of a row: its value, or those in a list."""
  fields = row.fields if isinstance(row, Example) else row
  value = fields.get(column)
  if isinstance(value, list | tuple):
    labels = dict.fromkeys(map(str, value))
    return list(labels) or [""]
  return ["" if value is None else str(value)]


def named_mean(scores: Sequence[Score], name: str) -> dict[str, float]:
  """The mean value of all scores under a name; {} without scores."""
  if not scores:
    return {}
  total = sum(score.value for score in scores)
  return {name: total / len(scores)}


def micro_average(values: Sequence[float]) -> float | None:
  """The mean over questions; None without any."""
  if not values:
    return None
  return sum(values) / len(values)


def macro_average(table: Mapping[str, Averages], name: str) -> float | None:
  """The unweighted mean of a score over groups.

  `table` is that of `group_averages`. None if no group has the score.
  """
  values = []
  for averages in table.values():
    if name in averages:
      values.append(averages[name])
  return micro_average(values)


def weighted_average(
  table: Mapping[str, Averages], name: str, weights: Mapping[str, float] | None = None
) -> float | None:
  """The weighted mean of a score over groups; None without weight.

  The weights are the groups' numbers of questions by default.
  """
  if weights is None:
    weights = {label: averages[QUESTIONS] for label, averages in table.items()}
  total = 0.0
  weight_sum = 0.0
  for label, averages in table.items():
    weight = weights.get(label, 0.0)
    if name in averages:
      total += weight * averages[name]
      weight_sum += weight
  if not weight_sum:
    return None
  return total / weight_sum


def _grouped(rows: Iterable[Any], items: Iterable[Item], column: str) -> dict[str, list[Item]]:
  """The items by the value that their rows have."""
  groups: dict[str, list[Item]] = {}
  for row, item in zip(rows, items, strict=True):
    for label in column_labels(row, column):
      groups.setdefault(label, []).append(item)
  ordered = {}
  for label in sorted(groups, key=_sort_key):
    ordered[label] = groups[label]
  return ordered


def _sort_key(label: str) -> tuple[float, str]:
  """Numbers by size, then words."""
  try:
    number = float(label)
  except ValueError:
    return math.inf, label
  if math.isnan(number):
    return math.inf, label
  return number, label
