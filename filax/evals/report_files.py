# SPDX-License-Identifier: Apache-2.0
"""The numbers of a report as files for papers and scripts.

.csv  a line for each score of a run: all questions, and each group of each column
.md   a table of runs and benchmarks with published scores, and a table for each column
.tex  the same tables for LaTeX, with the rules of the package booktabs
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import csv
import io
import os
from typing import Any, NamedTuple

from filax import files
from filax.evals.html_page import column_title, points
from filax.evals.report_table import (
  LEGEND,
  NOT_COMPARABLE,
  OTHER_PROTOCOL,
  Numbers,
  main_published,
  published_models,
)

CSV_COLUMNS = (
  *("run", "benchmark", "column", "group", "metric", "points", "questions", "protocol"),
  *("comparable", "checkpoint", "folder"),
)
_LATEX = {  # Characters that LaTeX takes for commands.
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  OTHER_PROTOCOL: r"$\neq$",
  **{character: f"\\{character}" for character in "&%$#_{}"},
}


class Table(NamedTuple):
  """A table of texts."""

  title: str
  head: list[str]
  rows: list[list[str]]


def is_table_file(path: str | os.PathLike) -> bool:
  """Whether the ending of a path names one of the formats."""
  return _ending(path) in _FORMATS


def write_tables(path: str | os.PathLike, report: Mapping[str, Any]) -> None:
  """Writes the file in the format of its ending. Raises OSError."""
  text = _FORMATS[_ending(path)](report)
  with files.write_atomically(path) as file:
    file.write(text.encode())


def csv_text(report: Mapping[str, Any]) -> str:
  """A line for each score of a run.

  `points` is empty for a missing score.
  """
  text = io.StringIO()
  writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
  writer.writeheader()
  for benchmark, numbers in report["benchmarks"].items():
    for run in numbers["runs"]:
      names = ("run", "metric", "protocol", "comparable", "checkpoint", "folder")
      common = dict(benchmark=benchmark) | {name: run[name] for name in names}
      for line in _csv_lines(run):
        writer.writerow(common | line)
  return text.getvalue()


def markdown_text(report: Mapping[str, Any]) -> str:
  """All tables in Markdown."""
  parts = []
  for table in report_tables(report):
    lines = [f"### {table.title}", "", _markdown_row(table.head)]
    lines.append("|---|" + "---:|" * (len(table.head) - 1))
    lines += map(_markdown_row, table.rows)
    parts.append("\n".join(lines) + "\n")
  parts.insert(1, LEGEND + "\n")
  return "\n".join(parts)


def latex_text(report: Mapping[str, Any]) -> str:
  """All tables in LaTeX."""
  parts = []
  for table in report_tables(report):
    columns = "l" + "r" * (len(table.head) - 1)
    lines = [f"% {table.title}", f"\\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_latex_row(table.head), r"\midrule", *map(_latex_row, table.rows)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    parts.append("\n".join(lines) + "\n")
  parts.insert(1, f"% {LEGEND}\n")
  return "\n".join(parts)


def report_tables(report: Mapping[str, Any]) -> list[Table]:
  """A table of all benchmarks, then one for each column."""
  benchmarks = report["benchmarks"]
  rows = [_run_row(run, benchmarks) for run in report["runs"]]
  rows += [_published_row(model, benchmarks) for model in published_models(benchmarks)]
  tables = [Table("Scores", ["", *benchmarks], rows)]
  for name, numbers in benchmarks.items():
    tables += _column_tables(name, numbers["runs"])
  return tables


def _csv_lines(run: Numbers) -> Iterable[dict[str, Any]]:
  """The score of a run, then those of its groups."""
  yield dict(points=_exact_points(run["score"]), questions=run["questions"])
  for column, groups in run["by"].items():
    for group, entry in groups.items():
      score = _group_score(run, entry)
      line = dict(column=column, group=group, questions=entry["questions"])
      yield line | dict(points=_exact_points(score))


def _exact_points(score: float | None) -> str:
  return "" if score is None else f"{100 * score:.4f}"


def _group_score(run: Numbers, entry: Numbers) -> float | None:
  """The main score of a group."""
  return entry.get(run["metric"], entry.get("accuracy"))


def _run_row(run: str, benchmarks: Mapping[str, Numbers]) -> list[str]:
  row = [run]
  for numbers in benchmarks.values():
    scores = []
    for evaluated in numbers["runs"]:
      if evaluated["run"] == run:
        mark = "" if evaluated["comparable"] else NOT_COMPARABLE
        scores.append(points(evaluated["score"]) + mark)
    row.append(" / ".join(scores))
  return row


def _published_row(model: str, benchmarks: Mapping[str, Numbers]) -> list[str]:
  row = [model]
  for numbers in benchmarks.values():
    cells = [""]
    for score in main_published(numbers):
      if score["model"] == model:
        mark = f" {OTHER_PROTOCOL}" if score["mismatch"] else ""
        cells.append(points(score["score"]) + mark)
    row.append(cells[1] if len(cells) > 1 else "")
  return row


def _column_tables(benchmark: str, runs: Sequence[Numbers]) -> list[Table]:
  """A table of runs and groups for each column."""
  columns: dict[str, dict[str, None]] = {}
  for run in runs:
    for column, groups in run["by"].items():
      columns.setdefault(column, {}).update(dict.fromkeys(groups))
  tables = []
  for column, names in columns.items():
    rows = []
    for run in runs:
      groups = run["by"].get(column, {})
      scores = [_group_score(run, groups.get(name, {})) for name in names]
      rows.append([run["run"], *map(points, scores)])
    tables.append(Table(f"{benchmark} by {column_title(column)}", ["", *names], rows))
  return tables


def _markdown_row(cells: Iterable[str]) -> str:
  escaped = [cell.replace("|", "\\|").replace("*", "\\*") for cell in cells]
  return f"| {' | '.join(escaped)} |"


def _latex_row(cells: Iterable[str]) -> str:
  escaped = []
  for cell in cells:
    escaped.append("".join(_LATEX.get(character, character) for character in cell))
  return f"{' & '.join(escaped)} \\\\"


def _ending(path: str | os.PathLike) -> str:
  _, ending = os.path.splitext(path)
  return ending.lower()


_FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
  ".csv": csv_text,
  ".md": markdown_text,
  ".tex": latex_text,
}
