# SPDX-License-Identifier: Apache-2.0
"""compare.html and compare.json: what changed from one evaluation to others."""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from filax import files
from filax.evals import html_page, score_bars
from filax.evals.compare import GAINED, LOST
from filax.evals.html_page import Markup, element, points, signed_points
from filax.evals.question_table import Cell, TableColumn, question_table, script

PAGE = "compare.html"
NUMBERS = "compare.json"


def write_comparison(folder: str | os.PathLike, comparisons: Sequence[Mapping[str, Any]]) -> None:
  """Writes compare.html and compare.json into a folder. Raises OSError."""
  path = pathlib.Path(folder)
  with files.write_atomically(path / NUMBERS) as file:
    file.write(json.dumps(comparisons, indent=2).encode())
  with files.write_atomically(path / PAGE) as file:
    file.write(comparison_page(comparisons).encode())


def comparison_page(comparisons: Sequence[Mapping[str, Any]]) -> str:
  """The HTML of the comparisons of one run with others."""
  first = comparisons[0]["first"]
  parts = [element("h1", f"{comparisons[0]['benchmark']}: {run_name(first)} against others")]
  if len(comparisons) == 1:
    second = run_name(comparisons[0]["second"])
    title = f"{comparisons[0]['benchmark']}: {run_name(first)} → {second}"
    parts = [element("h1", title)]
  else:
    parts.append(_overview(comparisons))
  for number, comparison in enumerate(comparisons):
    if len(comparisons) > 1:
      parts.append(element("h1", f"→ {run_name(comparison['second'])}", style="margin-top:56px"))
    parts += _comparison_parts(comparison, f"flips{number}")
  return html_page.whole_page("Comparison of evaluations", parts, script=script())


def run_name(run: Mapping[str, Any]) -> str:
  """The name of a run: the last parts of its folder."""
  return "/".join(pathlib.PurePath(run["folder"]).parts[-2:])


def interval_text(interval: Sequence[float]) -> str:
  """An interval of a difference in points."""
  low, high = interval
  return f"{signed_points(low)} … {signed_points(high)}"


def p_text(p: float) -> str:
  """A p value."""
  return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"


def _overview(comparisons: Sequence[Mapping[str, Any]]) -> Markup:
  """A line for each run that was compared."""
  rows = []
  for comparison in comparisons:
    difference = element("b", signed_points(comparison["difference"]))
    rows.append(
      [
        run_name(comparison["second"]),
        points(comparison["first_score"]),
        points(comparison["second_score"]),
        difference,
        interval_text(comparison["interval"]),
        p_text(comparison["mcnemar"]["p"]),
        f"{comparison['paired']:,}",
      ]
    )
  head = ["run", "first run", "this run", "difference", "95 %", "McNemar", "common questions"]
  return html_page.table(head, rows)


def _comparison_parts(comparison: Mapping[str, Any], name: str) -> list[Markup]:
  parts = [element("p", _introduction(comparison), class_="faint")]
  if comparison["warnings"]:
    parts.append(element("div", html_page.bullet_list(comparison["warnings"]), class_="card warn"))
  parts += [_headline(comparison), _figures(comparison), _explanation(comparison)]
  if comparison["settings"]:
    rows = []
    for setting, (before, after) in comparison["settings"].items():
      rows.append([setting.replace("_", " "), _setting(before), _setting(after)])
    parts.append(element("h2", "Settings that differ"))
    parts.append(html_page.table(["", "first", "second"], rows, class_="words"))
  for column, groups in comparison["by"].items():
    if groups:
      parts += [element("h2", f"By {column.replace('_', ' ')}"), _column_bars(comparison, groups)]
  parts.append(element("h2", "What flipped"))
  parts += _flip_section(comparison, name)
  return parts


def _introduction(comparison: Mapping[str, Any]) -> str:
  first = comparison["first"]
  second = comparison["second"]
  return (
    f"{html_page.counted(comparison['paired'], 'question')} that both runs answered. First: "
    f"{first['folder']} ({first['checkpoint']}, protocol {first['protocol'] or 'none'}). Second: "
    f"{second['folder']} ({second['checkpoint']}, protocol {second['protocol'] or 'none'})."
  )


def _headline(comparison: Mapping[str, Any]) -> Markup:
  """The difference with its interval."""
  low, high = comparison["interval"]
  style = ""
  if low > 0:
    style = "good"
  elif high < 0:
    style = "bad"
  number = element("div", signed_points(comparison["difference"]), class_=f"number {style}")
  macro = comparison["macro_column"]
  average = f"mean over {macro}" if macro else "mean over questions"
  facts = f"points of {comparison['metric']} ({average})"
  left = element("div", number, element("div", facts, class_="faint"))
  verdict = "The interval holds 0: the runs may be equally good."
  if style:
    verdict = "The interval does not hold 0."
  right = element(
    "div",
    element("p", f"95 % between {interval_text(comparison['interval'])}. {verdict}"),
    element("p", _scores(comparison), class_="faint"),
  )
  return html_page.card(element("div", left, right, class_="headline"))


def _scores(comparison: Mapping[str, Any]) -> str:
  first = points(comparison["first_score"])
  second = points(comparison["second_score"])
  return (
    f"On the common questions {first} and {second}; reported for all their questions "
    f"{points(comparison['first']['score'])} and {points(comparison['second']['score'])}."
  )


def _figures(comparison: Mapping[str, Any]) -> Markup:
  test = comparison["mcnemar"]
  figures = (
    (GAINED, test["gained"], "questions gained"),
    (LOST, test["lost"], "questions lost"),
    ("Right in both", test["both_right"], ""),
    ("Wrong in both", test["both_wrong"], ""),
    ("McNemar's exact test", p_text(test["p"]).removeprefix("p = "), "p of so uneven flips"),
  )
  cards = []
  for name, value, note in figures:
    shown = f"{value:,}" if isinstance(value, int) else value
    cards.append(html_page.number_card(name, shown, note))
  return html_page.card_row(cards)


def _explanation(comparison: Mapping[str, Any]) -> Markup:
  """How the interval was made, and the other one."""
  media = interval_text(comparison["intervals"]["media"])
  question = interval_text(comparison["intervals"]["question"])
  text = (
    f"Paired bootstrap of {comparison['resamples']:,} resamples (seed {comparison['seed']}). Drawing "
    f"the {comparison['media']:,} media with all their questions gives {media}; drawing single "
    f"questions gives {question}, which is too narrow where questions share a video. The number "
    f"above is that by {comparison['units']}. McNemar's test takes questions as independent."
  )
  return element("p", text, class_="faint small", style="margin-top:12px")


def _setting(value: Any) -> str:
  if isinstance(value, Mapping):
    return ", ".join([f"{name}={inner}" for name, inner in value.items()])
  return "none" if value is None else str(value)


def _column_bars(comparison: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> Markup:
  """Both scores of each group of a column, with the difference."""
  lines = []
  for name, group in groups.items():
    label = f"{name} ({signed_points(group['difference'])})"
    scores = [group["first"], group["second"]]
    lines.append(score_bars.GroupScores(label, scores, group["questions"]))
  names = [run_name(comparison["first"]), run_name(comparison["second"])]
  return html_page.card(score_bars.score_bars(lines, names))


def _flip_section(comparison: Mapping[str, Any], name: str) -> list[Markup]:
  flips = comparison["flips"]
  if not flips:
    return [element("p", "No verdict changed.")]
  columns = [TableColumn("id", "id"), TableColumn("change", "choice")]
  if comparison["shows_text"]:
    columns += [TableColumn("question", "question"), TableColumn("expected")]
  columns += [TableColumn("first"), TableColumn("second")]
  by = list(comparison["by"]) if comparison["shows_text"] else []
  columns += [TableColumn(column.replace("_", " "), "choice") for column in by]
  return [question_table(name, columns, _flip_rows(comparison, by), len(flips))]


def _flip_rows(comparison: Mapping[str, Any], by: Sequence[str]) -> Iterator[list[Cell]]:
  for flip in comparison["flips"]:
    cells: list[Cell] = [flip["id"], flip["change"]]
    if comparison["shows_text"]:
      cells += [flip["question"], flip["expected"]]
    cells += [flip["first"], flip["second"]]
    cells += [flip["columns"][column] for column in by]
    yield cells
