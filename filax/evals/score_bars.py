# SPDX-License-Identifier: Apache-2.0
"""Scores as bars."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from filax.evals import html_page
from filax.evals.html_page import Markup, element, points

SERIES = 6  # Colours; the scores of more runs are drawn as a table.
MOST_GROUPS = 40  # The most groups of a column; the rest is in result.json.

Groups = Mapping[str, Mapping[str, Any]]  # Value of a column -> its averages.


class GroupScores(NamedTuple):
  """The scores of one value of a column."""

  name: str
  scores: list[float | None]  # One for each run.
  questions: int


def column_groups(columns: Sequence[Groups]) -> list[GroupScores]:
  """The groups of a column in the results of several runs."""
  names: dict[str, None] = {}
  for groups in columns:
    names |= dict.fromkeys(groups)
  return [group_scores(name, columns) for name in names]


def group_scores(name: str, columns: Sequence[Groups]) -> GroupScores:
  """The scores of a group; None where a run lacks it."""
  scores: list[float | None] = []
  questions = 0
  for groups in columns:
    group = groups.get(name, {})
    scores.append(group.get("accuracy"))
    questions = max(questions, group.get("questions", 0))
  return GroupScores(name, scores, questions)


def score_chart(
  groups: Sequence[GroupScores], runs: Sequence[str] = ("",), chance: float | None = None
) -> Markup:
  """Bars for each group, or a table of many runs.

  A mark stands at the score of guessing.
  """
  if len(runs) > SERIES:
    return _group_table(groups, runs)
  lines: list[Markup] = []
  for group in groups[:MOST_GROUPS]:
    lines += _group_line(group, chance)
  parts = [_legend(runs, chance), element("div", *lines, class_="bars")]
  rest = len(groups) - MOST_GROUPS
  if rest > 0:
    parts.append(html_page.note(f"{rest:,} further groups are in result.json."))
  return html_page.card(*parts)


def _group_table(groups: Sequence[GroupScores], runs: Sequence[str]) -> Markup:
  rows = []
  for group in groups:
    scores = map(points, group.scores)
    rows.append([_name(group), *scores, f"{group.questions:,}"])
  return html_page.table(["", *runs, "questions"], rows, class_="matrix")


def _legend(runs: Sequence[str], chance: float | None) -> Markup:
  """The colours of runs, and the mark of guessing."""
  entries = []
  if len(runs) > 1:
    for place, run in enumerate(runs):
      colour = element("i", class_=f"series{place}")
      entries.append(element("span", colour, run))
  if chance:
    mark = element("i", class_="line")
    entries.append(element("span", mark, f"guessing {points(chance)}"))
  return element("div", *entries, class_="legend")


def _group_line(group: GroupScores, chance: float | None) -> list[Markup]:
  """Label, numbers and bars of a group."""
  marks = []
  for place, score in enumerate(group.scores):
    share = min(max(score or 0.0, 0.0), 1.0)
    width = f"width:{share:.2%}"
    marks.append(element("div", class_=f"fill series{place}", style=width))
  if chance:
    left = f"left:{chance:.2%}"
    marks.append(element("div", class_="chance", style=left))
  several = " many" if len(group.scores) > 1 else ""
  return [
    element("div", _name(group), class_="label"),
    _group_numbers(group),
    element("div", *marks, class_=f"track{several}"),
  ]


def _group_numbers(group: GroupScores) -> Markup:
  numbers = []
  for score in group.scores:
    number = points(score)
    numbers.append(element("b", number))
  scores = html_page.joined(numbers, " · ")
  count = html_page.counted(group.questions, "question")
  remark = element("span", f" {count}", class_="faint small")
  return element("div", scores, remark, class_="value")


def _name(group: GroupScores) -> str:
  return group.name or "(none)"
