# SPDX-License-Identifier: Apache-2.0
"""compare.html and compare.json: what changed from one evaluation to others."""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from filax import files
from filax.evals import html_page
from filax.evals.compare import GAINED, LOST
from filax.evals.html_page import Markup, element, heading, points, setting_text, signed_points
from filax.evals.question_table import Cell, TableColumn, question_table, table_script
from filax.evals.results import run_names
from filax.evals.score_bars import GroupScores, score_chart
from filax.evals.shown_rows import short_text

PAGE = "compare.html"
NUMBERS = "compare.json"

Comparison = Mapping[str, Any]  # As filax.evals.compare returns it.


def write_comparison(folder: str | os.PathLike, comparisons: Sequence[Comparison]) -> None:
  """Writes compare.html and compare.json into a folder. Raises OSError."""
  path = pathlib.Path(folder)
  numbers = json.dumps(comparisons, indent=2)
  page = comparison_page(comparisons)
  with files.write_atomically(path / NUMBERS) as file:
    file.write(numbers.encode())
  with files.write_atomically(path / PAGE) as file:
    file.write(page.encode())


def comparison_page(comparisons: Sequence[Comparison]) -> str:
  """The HTML of the comparisons of one run with others."""
  first = comparisons[0]["first"]["folder"]
  others = [comparison["second"]["folder"] for comparison in comparisons]
  first_name, *names = run_names([first, *others])
  title = f"{comparisons[0]['benchmark']}: {first_name} against {', '.join(names)}"
  parts = [element("h1", title)]
  if len(comparisons) > 1:
    parts.append(_overview(comparisons, names))
  for place, comparison in enumerate(comparisons):
    if len(comparisons) > 1:
      parts.append(element("h1", names[place], class_="part"))
    parts += _comparison_parts(comparison, [first_name, names[place]], f"flips{place}")
  return html_page.whole_page(title, parts, script=table_script())


def interval_text(interval: Sequence[float]) -> str:
  """An interval of a difference in points."""
  low, high = map(signed_points, interval)
  return f"{low} … {high}"


def p_text(p: float) -> str:
  """A p value."""
  return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _overview(comparisons: Sequence[Comparison], names: Sequence[str]) -> Markup:
  """A line for each run that was compared."""
  rows = []
  for name, comparison in zip(names, comparisons, strict=True):
    row = [
      name,
      points(comparison["first_score"]),
      points(comparison["second_score"]),
      element("b", signed_points(comparison["difference"])),
      interval_text(comparison["interval"]),
      p_text(comparison["mcnemar"]["p"]),
      f"{comparison['paired']:,}",
    ]
    rows.append(row)
  head = ("run", "first run", "this run", "difference", "95 %", "McNemar p", "common questions")
  return html_page.table(head, rows)


def _comparison_parts(
  comparison: Comparison, names: Sequence[str], table_name: str
) -> list[Markup]:
  """The section of one pair of runs."""
  parts = [
    html_page.note(_introduction(comparison)),
    *html_page.warning_card(comparison["warnings"]),
    _headline(comparison),
    html_page.card_row(_figures(comparison["mcnemar"])),
    element("p", _explanation(comparison), class_="faint small"),
    *_settings(comparison),
  ]
  for column, groups in comparison["by"].items():
    if groups:
      title = html_page.column_title(column)
      parts.append(heading(f"By {title}"))
      parts.append(score_chart(_group_scores(groups), names))
  parts.append(heading("What flipped"))
  parts += _flip_table(comparison, table_name)
  return parts


def _introduction(comparison: Comparison) -> str:
  questions = html_page.counted(comparison["paired"], "question")
  first = _run_text(comparison["first"])
  second = _run_text(comparison["second"])
  return f"{questions} that both runs answered. First: {first}. Second: {second}."


def _run_text(run: Mapping[str, Any]) -> str:
  checkpoint = run["checkpoint"] or "unnamed checkpoint"
  protocol = run["protocol"] or "none"
  return f"{run['folder']} ({checkpoint}, protocol {protocol})"


def _headline(comparison: Comparison) -> Markup:
  """The difference with its interval."""
  low, high = comparison["interval"]
  style = "number"
  verdict = "It holds 0: the runs may be equally good."
  if low > 0 or high < 0:
    style = "number good" if low > 0 else "number bad"
    verdict = "It does not hold 0."
  average = "questions"
  if comparison["macro_column"]:
    average = f"the groups of {comparison['macro_column']}"
  facts = f"points of {comparison['metric']}, mean over {average}"
  difference = element(
    "div",
    element("div", signed_points(comparison["difference"]), class_=style),
    element("div", facts, class_="faint"),
  )
  interval = f"95 % interval {interval_text(comparison['interval'])}. {verdict}"
  sentences = element("div", element("p", interval), html_page.note(_scores(comparison)))
  return html_page.card(element("div", difference, sentences, class_="headline"))


def _scores(comparison: Comparison) -> str:
  first = points(comparison["first_score"])
  second = points(comparison["second_score"])
  all_first = points(comparison["first"]["score"])
  all_second = points(comparison["second"]["score"])
  return (
    f"On the common questions {first} and {second}; reported for all questions of each run "
    f"{all_first} and {all_second}."
  )


def _figures(test: Mapping[str, Any]) -> list[Markup]:
  return [
    html_page.number_card("Gained", f"{test['gained']:,}", GAINED),
    html_page.number_card("Lost", f"{test['lost']:,}", LOST),
    html_page.number_card("Right in both", f"{test['both_right']:,}"),
    html_page.number_card("Wrong in both", f"{test['both_wrong']:,}"),
    html_page.number_card("McNemar's test", p_text(test["p"]), "p, exact"),
  ]


def _explanation(comparison: Comparison) -> str:
  """How the interval was made, and the other one."""
  media = interval_text(comparison["intervals"]["media"])
  question = interval_text(comparison["intervals"]["question"])
  drawn = "media" if comparison["units"] == "media" else "single questions"
  return (
    f"Paired bootstrap, {comparison['resamples']:,} resamples, seed {comparison['seed']}. Drawing "
    f"the {comparison['media']:,} media with all their questions gives {media}. Drawing single "
    f"questions gives {question}, too narrow where questions share a video. The interval above "
    f"is that of {drawn}. McNemar's test takes questions as independent."
  )


def _settings(comparison: Comparison) -> list[Markup]:
  """A table of the settings that differ."""
  rows = []
  for name, values in comparison["settings"].items():
    words = map(setting_text, values)
    rows.append([html_page.column_title(name), *words])
  if not rows:
    return []
  table = html_page.table(("", "first", "second"), rows, class_="words")
  return [heading("Settings that differ"), table]


def _group_scores(groups: Mapping[str, Mapping[str, Any]]) -> list[GroupScores]:
  """Both scores of each group, the difference in its label."""
  lines = []
  for name, group in groups.items():
    label = f"{name} ({signed_points(group['difference'])})"
    scores = [group["first"], group["second"]]
    lines.append(GroupScores(label, scores, group["questions"]))
  return lines


def _flip_table(comparison: Comparison, name: str) -> list[Markup]:
  flips = comparison["flips"]
  if not flips:
    return [element("p", "No verdict changed.")]
  by = []
  columns = [TableColumn("id", "id"), TableColumn("change", "choice")]
  if comparison["shows_text"]:
    by = list(comparison["by"])
    columns.append(TableColumn("question", "question"))
    columns.append(TableColumn("expected"))
  columns.append(TableColumn("first"))
  columns.append(TableColumn("second"))
  for column in by:
    columns.append(TableColumn(html_page.column_title(column), "choice"))
  return question_table(name, columns, _flip_rows(comparison, by), len(flips))


def _flip_rows(comparison: Comparison, by: Sequence[str]) -> Iterator[list[Cell]]:
  """The cells of each flip, in the order of `_flip_table`."""
  for flip in comparison["flips"]:
    cells: list[Cell] = [short_text(flip["id"]), flip["change"]]
    if comparison["shows_text"]:
      cells.append(flip["question"])
      cells.append(flip["expected"])
    cells.append(flip["first"])
    cells.append(flip["second"])
    for column in by:
      cells.append(flip["columns"][column])
    yield cells
