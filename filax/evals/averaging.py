# SPDX-License-Identifier: Apache-2.0
"""Averages of an evaluation: over all questions, by column, and over groups."""

import collections
from collections.abc import Sequence
import statistics
from typing import Any

from filax.evals.kit import Benchmark, Metric, NamedProtocol
from filax.evals.rows import Row, report_columns, row_groups, row_score

MICRO = "micro"  # The mean over questions.
MACRO = "macro"  # The mean over the groups of Benchmark.macro.


def scored_rows(rows: Sequence[Row]) -> list[Row]:
  """The rows whose right answer is known."""
  return [row for row in rows if row["score"] is not None]


def mean_score(rows: Sequence[Row]) -> float | None:
  """The mean score; None without scored rows.

  Answers that wait for their score are left out.
  """
  scored = [row for row in scored_rows(rows) if not row.get("pending")]
  if not scored:
    return None
  return statistics.fmean(row["score"] for row in scored)


def all_scores(
  benchmark: Benchmark, protocol: NamedProtocol, rows: Sequence[Row]
) -> dict[str, float]:
  """Name -> score of all questions.

  `micro` and `macro` are there if the benchmark has a column for the latter; the protocol says
  which of them the headline is.
  """
  metric = protocol.metric
  scores = averages(metric, rows)
  if not scores or not benchmark.macro:
    return scores
  of_groups = []
  for group in grouped_rows(rows, benchmark.macro).values():
    group_scores = averages(metric, group)
    if metric.headline in group_scores:
      of_groups.append(group_scores[metric.headline])
  scores[MICRO] = scores[metric.headline]
  scores[MACRO] = statistics.fmean(of_groups)
  if protocol.macro:
    scores[metric.headline] = scores[MACRO]
  return scores


def set_scores(protocol: NamedProtocol, rows: Sequence[Row]) -> dict[str, float]:
  """Scores of all answers together, which are no averages."""
  scored = scored_rows(rows)
  if protocol.set_scores is None or not scored:
    return {}
  right_answers = [[row["expected"], *row.get("references", ())] for row in scored]
  return protocol.set_scores([row["answer"] for row in scored], right_answers)


def scores_by(
  benchmark: Benchmark, metric: Metric, rows: Sequence[Row]
) -> dict[str, dict[str, dict[str, Any]]]:
  """Column -> value -> averages and number of its questions.

  A question with several values counts in each.
  """
  columns = {}
  for column in report_columns(benchmark):
    columns[column] = _scores_of_column(metric, rows, column)
  return columns


def _scores_of_column(metric: Metric, rows: Sequence[Row], column: str) -> dict[str, Any]:
  table = {}
  for value, group in grouped_rows(rows, column).items():
    entry: dict[str, Any] = dict(accuracy=mean_score(group), questions=len(group))
    entry |= averages(metric, group)
    table[value] = entry
  return table


def grouped_rows(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
  """Value of a column -> its rows, in order."""
  groups = collections.defaultdict(list)
  for row in rows:
    for value in row_groups(row, column):
      groups[value].append(row)
  return dict(sorted(groups.items(), key=_value_order))


def _value_order(item: tuple[str, list[Row]]) -> tuple[float, str]:
  """Numbers by their size, before words: durations 15, 60, 600."""
  value, _ = item
  try:
    return float(value), value
  except ValueError:
    return float("inf"), value


def averages(metric: Metric, rows: Sequence[Row]) -> dict[str, float]:
  """The metric's averages of rows; {} if none has a score."""
  scores = [row_score(row) for row in scored_rows(rows)]
  return dict(metric.average(scores)) if scores else {}
