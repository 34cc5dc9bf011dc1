# SPDX-License-Identifier: Apache-2.0
"""Scores by the length of the video, for benchmarks without a column of it."""

import collections
from collections.abc import Iterable
from typing import Any

from filax.evals.results import Results, Row

COLUMN = "length of the video"
OWN_COLUMNS = {
  "duration",
  "duration_group",
}  # Columns of benchmarks that group by length themselves.
GROUPS = (  # (longest seconds, name)
  (60.0, "up to 1 minute"),
  (180.0, "1 to 3 minutes"),
  (900.0, "3 to 15 minutes"),
  (3600.0, "15 to 60 minutes"),
  (float("inf"), "over an hour"),
)


def score_columns(results: Results) -> dict[str, dict[str, dict[str, Any]]]:
  """Column -> value -> scores.

  The columns are the benchmark's and the length of the video.
  """
  columns = dict(results.result["by"])
  if OWN_COLUMNS & set(columns):
    return columns
  groups = by_duration(results.scored)
  if len(groups) > 1:
    columns[COLUMN] = groups
  return columns


def by_duration(answers: Iterable[Row]) -> dict[str, dict[str, Any]]:
  """Group of lengths -> accuracy and number of its scored answers."""
  scores = collections.defaultdict(list)
  for row in answers:
    name = duration_group(row)
    scores[name].append(row["score"])
  table = {}
  for _, name in GROUPS:
    values = scores[name]
    if values:
      accuracy = sum(values) / len(values)
      table[name] = dict(accuracy=accuracy, questions=len(values))
  return table


def duration_group(row: Row) -> str:
  """The group of a row's video; "" if its length is unknown."""
  seconds = row.get("seconds", row.get("duration"))
  if not isinstance(seconds, int | float) or seconds <= 0:
    return ""
  for longest, name in GROUPS:
    if seconds <= longest:
      return name
  return ""
