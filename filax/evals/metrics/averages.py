# SPDX-License-Identifier: Apache-2.0
"""Averages over questions (micro), over groups (macro), and by a column of the records."""

from collections.abc import Iterable, Mapping, Sequence
import re
from typing import Any, TypeVar

from filax.evals.kit import Example, Metric, Score

Row = TypeVar("Row", bound=Mapping[str, Any] | Example)
QUESTIONS = "questions"  # The number of scores of a group, in its averages.
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def column_labels(row: Mapping[str, Any] | Example, column: str) -> list[str]:
  """The groups of a record: each element of a list, once; "" without a value."""
  fields = row.fields if isinstance(row, Example) else row
  value = fields.get(column)
  values = value if isinstance(value, list | tuple) else [value]
  labels = ["" if label is None else str(label) for label in values]
  return list(dict.fromkeys(labels)) or [""]


def group_scores(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
  """Value of a column -> its records, in order of the values.

  Records are rows of answers or examples. A record with a list counts in each of its groups.
  Numbers are in order of size.
  """
  groups: dict[str, list[Row]] = {}
  for row in rows:
    for label in column_labels(row, column):
      groups.setdefault(label, []).append(row)
  return {label: groups[label] for label in sorted(groups, key=_sort_key)}


def group_averages(
  examples: Sequence[Mapping[str, Any] | Example],
  scores: Sequence[Score],
  column: str,
  metric: Metric,
) -> dict[str, dict[str, float]]:
  """Value of a column -> the metric's averages and the number of questions."""
  groups: dict[str, list[Score]] = {}
  for example, score in zip(examples, scores, strict=True):
    for label in column_labels(example, column):
      groups.setdefault(label, []).append(score)
  table: dict[str, dict[str, float]] = {}
  for label in sorted(groups, key=_sort_key):
    group = groups[label]
    table[label] = {**metric.average(group), QUESTIONS: len(group)}
  return table


def named_mean(scores: Sequence[Score], name: str) -> dict[str, float]:
  """The mean value of all scores under a name; {} without scores."""
  mean = micro_average([score.value for score in scores])
  return {} if mean is None else {name: mean}


def micro_average(values: Sequence[float]) -> float | None:
  """The mean over questions; None without any."""
  return sum(values) / len(values) if values else None


def macro_average(table: Mapping[str, Mapping[str, float]], name: str) -> float | None:
  """The unweighted mean of a score over groups (`group_averages`).

  None without groups that have the score.
  """
  return micro_average([group[name] for group in table.values() if name in group])


def weighted_average(
  table: Mapping[str, Mapping[str, float]], name: str, weights: Mapping[str, float] | None = None
) -> float | None:
  """The mean of a score over groups, by weight; None without weight.

  The weights are the groups' numbers of questions by default.
  """
  total = 0.0
  weight_sum = 0.0
  for label, group in table.items():
    weight = group[QUESTIONS] if weights is None else weights.get(label, 0.0)
    if name in group:
      total += weight * group[name]
      weight_sum += weight
  return total / weight_sum if weight_sum else None


def _sort_key(label: str) -> tuple[bool, float, str]:
  """Numbers before words, by size."""
  is_number = _NUMBER.fullmatch(label) is not None
  return not is_number, float(label) if is_number else 0.0, label
