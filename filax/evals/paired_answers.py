# SPDX-License-Identifier: Apache-2.0
"""The answers of two evaluations to the same questions."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from filax.evals.results import Results, Row
from filax.evals.shown_rows import column_values


class PairedAnswers(NamedTuple):
  """Answers of two runs to the same questions.

  They are in the order of the first run.
  """

  first: list[Row]
  second: list[Row]
  only_first: list[str]  # Ids.
  only_second: list[str]
  repeated: list[str]  # Ids of several lines: nothing says which belong together.
  changed: Sequence[str] = ()  # Ids of other questions, or with another right answer.


def pair_answers(first: Results, second: Results) -> PairedAnswers:
  """Pairs the scored answers by the ids of their questions.

  Where the annotation files differ, so may the questions with an id. Protocols may word them
  differently: then only the right answers are compared.
  """
  first_rows = _rows_by_id(first)
  second_rows = _rows_by_id(second)
  only_second = [name for name in second_rows if name not in first_rows]
  changed: list[str] = []
  pairs = PairedAnswers([], [], [], only_second, [], changed)
  compared = []
  if annotation_hashes(first) != annotation_hashes(second):
    compared.append("expected")
    if first.result["protocol"] == second.result["protocol"]:
      compared.append("question")
  for name, rows in first_rows.items():
    others = second_rows.get(name)
    if others is None:
      pairs.only_first.append(name)
    elif len(rows) > 1 or len(others) > 1:
      pairs.repeated.append(name)
    elif any(rows[0].get(key) != others[0].get(key) for key in compared):
      changed.append(name)
    else:
      pairs.first.extend(rows)
      pairs.second.extend(others)
  return pairs


def annotation_hashes(run: Results) -> list[str]:
  """The hashes of the files with the questions."""
  annotations = run.result["hashes"].get("annotations") or {}
  return sorted(map(str, annotations.values()))


def row_scores(rows: Sequence[Row]) -> np.ndarray:
  """The scores of rows f64 [n]."""
  scores = [row["score"] for row in rows]
  return np.asarray(scores, np.float64)


def column_groups_of(rows: Sequence[Row], column: str) -> np.ndarray:
  """The number of each row's group in a column, i64 [n].

  For the column "", all are 0.
  """
  numbers: dict[str, int] = {}
  groups = []
  for row in rows:
    values = column_values(row, column) if column else []
    name = ", ".join(values)
    groups.append(numbers.setdefault(name, len(numbers)))
  return np.asarray(groups, np.int64)


def _rows_by_id(run: Results) -> dict[str, list[Row]]:
  rows = collections.defaultdict(list)
  for row in run.scored:
    rows[row["id"]].append(row)
  return dict(rows)
