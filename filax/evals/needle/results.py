# SPDX-License-Identifier: Apache-2.0
"""Scores of a needle test.

The scores are those by length and depth and of the controls, also in the published form.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from filax.evals.needle.items import ANSWERING, FINDING

ABOVE_CHANCE = 0.01  # A control is above chance if guessing is so unlikely to score as high.

Row = Mapping[str, Any]  # A line of answers.jsonl.


def mean_of(rows: Iterable[Row]) -> float | None:
  """The mean score; None without rows."""
  scores = [row["score"] for row in rows]
  return sum(scores) / len(scores) if scores else None


def grouped(rows: Iterable[Row], *columns: str) -> dict[tuple, list[Row]]:
  """Rows by the values of some columns, in ascending order."""
  groups = collections.defaultdict(list)
  for row in rows:
    groups[tuple(row[column] for column in columns)].append(row)
  return dict(sorted(groups.items()))


def single_hop_table(rows: Sequence[Row]) -> list[dict[str, float]]:
  """all_accuracies.json of LongVA and VideoChat-Flash."""
  table = []
  for (frames, depth), group in grouped(rows, "frames", "depth").items():
    entry = {
      "Num. Frame": frames,
      "Frame Depth": depth_percent(depth),
      "Score": mean_of(group),
    }
    table.append(entry)
  return table


def depth_percent(depth: float) -> float:
  """A depth in per cent; published ones are rounded to tens."""
  tens = round(depth * 100, -1)
  return tens if abs(tens - depth * 100) < 1e-6 else round(depth * 100, 2)


def multi_hop_table(rows: Sequence[Row]) -> list[dict[str, float]]:
  """VideoChat-Flash's results by length."""
  table = []
  for (frames,), group in grouped(rows, "frames").items():
    table.append(multi_hop_entry(frames, group))
  return table


def multi_hop_entry(frames: int, rows: Sequence[Row]) -> dict[str, float]:
  """One length of `multi_hop_table`."""
  pairs = question_pairs(rows)
  both = pairs.count((True, True))
  only_finding = pairs.count((True, False))
  only_answering = pairs.count((False, True))
  total = max(1, len(pairs))
  finding = (both + only_finding) / total
  answering = (both + only_answering) / total
  return {
    "Num. Frame": frames,
    "Score": (finding + answering) / 2,
    "Caption Score": finding,
    "QA Score": answering,
    "Total question pair": len(pairs),
    "Both correct": both,
    "Only cap correct": only_finding,
    "Only qa correct": only_answering,
    "Both wrong": pairs.count((False, False)),
  }


def question_pairs(rows: Sequence[Row]) -> list[tuple[bool, bool]]:
  """(finding right, answering right) of every item that has both answers."""
  pairs = []
  for group in grouped(rows, "frames", "item").values():
    scores = {row["name"]: bool(row["score"]) for row in group}
    if len(scores) == 2:
      pairs.append((scores[FINDING], scores[ANSWERING]))
  return pairs


def single_hop_scores(rows: Sequence[Row]) -> dict[str, float | None]:
  """The mean over cells, the published average."""
  cells = [entry["Score"] for entry in single_hop_table(rows)]
  accuracy = sum(cells) / len(cells) if cells else None
  return dict(accuracy=accuracy, micro=mean_of(rows))


def multi_hop_scores(rows: Sequence[Row]) -> dict[str, float | None]:
  """CAP and QA as the paper names them, and the code's keys."""
  pairs = question_pairs(rows)
  if not pairs:
    return {"QA": None, "CAP": None}
  total = multi_hop_entry(0, rows)
  joint = total["Both correct"] / len(pairs)
  scores: dict[str, float | None] = {
    "QA": joint,
    "CAP": total["Caption Score"],
    "joint": joint,
  }
  for name in ("Score", "Caption Score", "QA Score"):
    scores[name] = total[name]
  return scores


def averages_by(
  rows: Sequence[Row],
  column: str,
  multi_hop: bool,
) -> dict[str, dict[str, Any]]:
  """Value of a column -> accuracy, questions and further averages."""
  table = {}
  for (value,), group in grouped(rows, column).items():
    entry: dict[str, Any] = dict(accuracy=mean_of(group), questions=len(group))
    if multi_hop:
      entry |= multi_hop_scores(group)
    table[f"{value:g}"] = entry
  return table


def control_report(
  rows: Sequence[Row], chances: Mapping[str, float | None], multi_hop: bool
) -> dict[str, Any]:
  """The score of a control beside chance.

  `above_chance` is True if guessing scores as high in fewer than 1 % of runs, None if chance is
  unknown. Answers to one question at several lengths count once, as their mean.
  """
  report: dict[str, Any] = dict(accuracy=mean_of(rows), questions=len(rows))
  means = []
  expected = []
  for (item, name), group in grouped(rows, "item", "name").items():
    means.append(mean_of(group) or 0.0)
    expected.append(chances.get(f"{item}#{name}"))
  if multi_hop:
    report |= multi_hop_scores(rows)
  stated = [chance for chance in expected if chance is not None]
  if not stated or len(stated) < len(expected):
    return report | dict(chance=None, above_chance=None)
  chance = sum(stated) / len(stated)
  right = round(sum(means))
  likely = binomial_tail(right, len(means), chance)
  return report | dict(chance=chance, above_chance=likely < ABOVE_CHANCE)


def binomial_tail(
  right: int,
  total: int,
  chance: float,
) -> float:
  """The probability of `right` or more out of `total` by guessing."""
  import scipy.stats

  return float(scipy.stats.binom.sf(right - 1, total, chance))
