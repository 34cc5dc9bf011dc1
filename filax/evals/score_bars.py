# SPDX-License-Identifier: Apache-2.0
"""Scores as bars, and the main score with what it may be compared with."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from filax.evals import html_page
from filax.evals.html_page import Markup, element
from filax.evals.results import Results

SERIES = 6  # Colours; more runs than that are drawn in rows of numbers only.
MOST_GROUPS = 40  # Of a column; the rest is in result.json.


class GroupScores(NamedTuple):
  """The scores of one value of a column."""

  name: str
  scores: list[float | None]  # One for each run.
  questions: int


def score_bars(
  groups: Sequence[GroupScores], names: Sequence[str] = ("",), chance: float | None = None
) -> Markup:
  """A line of bars for each group; a mark at the score of guessing."""
  legend = []
  if len(names) > 1:
    for place, name in enumerate(names):
      legend.append(element("span", _swatch(place), name))
  if chance:
    mark = element("i", class_="line")
    legend.append(element("span", mark, f"guessing {html_page.points(chance)}"))
  lines: list[Markup] = []
  for group in groups[:MOST_GROUPS]:
    lines += _group_line(group, chance)
  parts = [element("div", *legend, class_="legend")] if legend else []
  parts.append(element("div", *lines, class_="bars"))
  if len(groups) > MOST_GROUPS:
    rest = len(groups) - MOST_GROUPS
    parts.append(element("p", f"{rest:,} further groups are in result.json.", class_="faint"))
  return html_page.joined(parts)


def _swatch(place: int) -> Markup:
  return element("i", class_=f"series{place % SERIES}")


def _group_line(group: GroupScores, chance: float | None) -> list[Markup]:
  """Label, bars and numbers of a group."""
  fills = []
  numbers = []
  for place, score in enumerate(group.scores):
    width = 100 * min(max(score or 0.0, 0.0), 1.0)
    fills.append(element("div", class_=f"fill series{place % SERIES}", style=f"width:{width:.2f}%"))
    numbers.append(element("b", html_page.points(score)))
  if chance:
    fills.append(element("div", class_="chance", style=f"left:{100 * chance:.2f}%"))
  many = " many" if len(group.scores) > 1 else ""
  count = element(
    "span", f" {html_page.counted(group.questions, 'question')}", class_="faint small"
  )
  return [
    element("div", group.name or "(none)", class_="label"),
    element("div", html_page.joined(numbers, " · "), count, class_="value"),
    element("div", *fills, class_=f"track{many}"),
  ]


def column_groups(columns: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[GroupScores]:
  """The groups of a column in the results of several runs, in the order of the first."""
  names: dict[str, None] = {}
  for groups in columns:
    names.update(dict.fromkeys(groups))
  lines = []
  for name in names:
    scores: list[float | None] = []
    questions = 0
    for groups in columns:
      group = groups.get(name, {})
      scores.append(group.get("accuracy"))
      questions = max(questions, group.get("questions", 0))
    lines.append(GroupScores(name, scores, questions))
  return lines


def headline_card(results: Results, spread: str = "") -> Markup:
  """The main score, and whether it is comparable with published numbers."""
  result = results.result
  value = results.headline
  unit = "%" if value is not None and abs(value) <= 1 else ""
  number = element("div", html_page.points(value), element("span", unit, class_="unit"))
  number = element("div", number, class_="number")
  facts = [str(result["metric"])]
  if spread:
    facts.append(spread)
  if result["chance"] is not None:
    facts.append(f"guessing gives {html_page.points(result['chance'])}")
  left = element("div", number, element("div", " · ".join(facts), class_="faint"))
  return html_page.card(element("div", left, _comparable(result), class_="headline"))


def _comparable(result: Mapping[str, Any]) -> Markup:
  """The badge, and the reasons against a comparison."""
  parts = []
  if result["comparable"]:
    parts.append(element("span", "comparable", class_="badge good"))
    sentence = f"All questions were answered under the protocol {result['protocol']}."
    parts.append(element("p", sentence, class_="faint"))
  else:
    parts.append(element("span", "not comparable", class_="badge warn"))
    reasons = result["reasons"] or ["The run gives no reason."]
    parts.append(html_page.bullet_list(reasons))
  if result["note"]:
    parts.append(element("p", f"Note: {result['note']}.", class_="faint"))
  return element("div", *parts)


def score_cards(scores: Mapping[str, float | None]) -> Markup:
  """A box for each named score."""
  cards = []
  for name, value in scores.items():
    cards.append(html_page.number_card(name, html_page.points(value)))
  return html_page.card_row(cards)
