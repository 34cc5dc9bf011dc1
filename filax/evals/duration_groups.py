# SPDX-License-Identifier: Apache-2.0
"""Scores by the length of the video, for benchmarks without a column of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from filax.evals.results import Results

COLUMN = "length of the video"
OWN_COLUMNS = ("duration", "duration_group")  # Of benchmarks that group by length themselves.
GROUPS = (  # (longest seconds, name)
  (60.0, "up to 1 minute"),
  (180.0, "1 to 3 minutes"),
  (900.0, "3 to 15 minutes"),
  (3600.0, "15 to 60 minutes"),
  (float("inf"), "over an hour"),
)


def score_columns(results: Results) -> dict[str, Mapping[str, Mapping[str, Any]]]:
  """Column -> value -> scores: the benchmark's columns, and the length of the video."""
  columns = dict(results.result["by"])
  if any(column in columns for column in OWN_COLUMNS):
    return columns
  groups = by_duration(results.answers)
  if len(groups) > 1:
    columns[COLUMN] = groups
  return columns


def by_duration(answers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
  """Group of lengths -> accuracy and number of its questions."""
  scores: dict[str, list[float]] = {name: [] for _, name in GROUPS}
  for row in answers:
    seconds = row_seconds(row)
    if seconds and row["score"] is not None:
      scores[duration_group(seconds)].append(row["score"])
  table = {}
  for name, values in scores.items():
    if values:
      table[name] = dict(accuracy=sum(values) / len(values), questions=len(values))
  return table


def row_seconds(row: Mapping[str, Any]) -> float:
  """The length of a row's video in seconds; 0 if it is unknown."""
  value = row.get("seconds", row.get("duration"))
  return float(value) if isinstance(value, int | float) else 0.0


def duration_group(seconds: float) -> str:
  """The group of a length."""
  for longest, name in GROUPS:
    if seconds <= longest:
      return name
  raise ValueError(f"{seconds} is no length of a video.")
