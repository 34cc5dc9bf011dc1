# SPDX-License-Identifier: Apache-2.0
"""report.html: runs and benchmarks on one page, beside published scores."""

from collections.abc import Iterable, Mapping, Sequence
import os
from typing import Any

from filax import files
from filax.evals import html_page, report_table, samples
from filax.evals.html_page import Markup, element, heading, points
from filax.evals.report import GatheredRuns, ReportedRun, build_report, by_benchmark
from filax.evals.report_table import OTHER_PROTOCOL, Numbers
from filax.evals.results import Row
from filax.evals.score_bars import column_groups, score_chart

SAMPLES = 6  # Questions of a benchmark.
COUNTS = dict(  # Field -> its title.
  total="questions",
  questions="answered",
  skipped="skipped",
  unparsed="not understood",
  empty="empty",
  degenerate="degenerate",
)


def write_report_page(path: str | os.PathLike, gathered: GatheredRuns) -> dict[str, Any]:
  """Writes the page and returns the report's numbers. Raises OSError."""
  report = build_report(gathered)
  page = report_page(report, gathered)
  with files.write_atomically(path) as file:
    file.write(page.encode())
  return report


def report_page(report: Mapping[str, Any], gathered: GatheredRuns) -> str:
  """The HTML of a report."""
  benchmarks = report["benchmarks"]
  runs = html_page.counted(len(report["runs"]), "run")
  parts = [
    element("h1", "Evaluations"),
    html_page.note(f"{runs} on {html_page.counted(len(benchmarks), 'benchmark')}."),
    *html_page.warning_card(report["unreadable"]),
    report_table.score_matrix(report["runs"], benchmarks),
    element("p", report_table.LEGEND, class_="faint small"),
  ]
  for name, evaluated in by_benchmark(gathered.runs).items():
    parts.append(element("h1", name, class_="part"))
    parts += _benchmark_parts(benchmarks[name], evaluated)
  return html_page.whole_page("Evaluations", parts)


def _benchmark_parts(numbers: Numbers, evaluated: Sequence[ReportedRun]) -> list[Markup]:
  """The section of one benchmark."""
  runs = numbers["runs"]
  parts = [_run_table(runs), *_notes(runs)]
  if numbers["published"]:
    parts.append(heading("Published"))
    parts.append(_published_table(numbers["published"]))
  parts += _columns(runs)
  parts += [heading("What was counted"), _count_table(runs)]
  for run in evaluated:
    odd = samples.odd_answers(run.results)
    if odd:
      parts.append(html_page.folded(f"Odd answers of {run.name}", *odd))
  return parts + _sample_parts(evaluated)


def _run_table(runs: Sequence[Numbers]) -> Markup:
  """All averages of each run, and how it asked."""
  names: dict[str, None] = {}
  for numbers in runs:
    names[numbers["metric"]] = None
    names |= dict.fromkeys(numbers["scores"])
  rows = []
  for numbers in runs:
    scores = map(points, map(numbers["scores"].get, names))
    frames = html_page.setting_text(numbers["frames"])
    comparable = "yes" if numbers["comparable"] else "no"
    rows.append([numbers["run"], *scores, numbers["protocol"], frames, comparable])
  head = ("run", *names, "protocol", "frames", "comparable")
  return html_page.table(head, rows, class_="matrix")


def _notes(runs: Sequence[Numbers]) -> list[Markup]:
  """Why runs are not comparable, and other notes about them."""
  lines = []
  for numbers in runs:
    for sentence in _run_notes(numbers):
      lines.append(f"{numbers['run']}: {sentence}")
  if not lines:
    return []
  return [element("div", html_page.bullet_list(lines), class_="card faint")]


def _run_notes(numbers: Numbers) -> list[str]:
  sentences = [*numbers["reasons"], *numbers["notes"]]
  if not numbers["finished"]:
    sentences.append("The run has not finished.")
  if numbers["note"]:
    sentences.append(numbers["note"])
  return sentences


def _published_table(scores: Sequence[Numbers]) -> Markup:
  rows = []
  for score in scores:
    remark = score["note"]
    if score["mismatch"]:
      remark += f" {OTHER_PROTOCOL} {score['mismatch']}."
    row = [
      score["model"],
      f"{points(score['score'])} {score['metric']}",
      score["protocol"] or "not stated",
      score["frames"],
      score["source"],
      remark,
    ]
    rows.append(row)
  head = ("model", "score", "protocol", "frames", "source", "")
  return html_page.table(head, rows, class_="words many")


def _columns(runs: Sequence[Numbers]) -> list[Markup]:
  """A chart of each column."""
  columns: dict[str, None] = {}
  for numbers in runs:
    columns |= dict.fromkeys(numbers["by"])
  names = [numbers["run"] for numbers in runs]
  parts = []
  for column in columns:
    of_runs = [numbers["by"].get(column, {}) for numbers in runs]
    groups = column_groups(of_runs)
    if groups:
      parts.append(heading(f"By {html_page.column_title(column)}"))
      parts.append(score_chart(groups, names, runs[0]["chance"]))
  return parts


def _count_table(runs: Sequence[Numbers]) -> Markup:
  rows = []
  for numbers in runs:
    counts = [f"{numbers[field]:,}" for field in COUNTS]
    rows.append([numbers["run"], *counts])
  return html_page.table(("run", *COUNTS.values()), rows, class_="matrix")


def _sample_parts(evaluated: Sequence[ReportedRun]) -> list[Markup]:
  """Questions with every run's answers; [] where the licence forbids it."""
  if not all(run.results.shows_text for run in evaluated):
    return []
  rows = samples.pick_samples(evaluated[0].results.answers, SAMPLES)
  if not rows:
    return []
  wanted = {row["id"] for row in rows}
  answers: dict[str, list[Markup]] = {name: [] for name in wanted}
  for run in evaluated:
    for name, row in _rows_with(run.results.answers, wanted).items():
      answers[name].append(_answer_line(run.name, row))
  lines = [answers[row["id"]] for row in rows]
  return [heading("Sample answers"), *samples.sample_cards(rows, lines)]


def _rows_with(rows: Iterable[Row], ids: set[str]) -> dict[str, Row | None]:
  """Id -> its row; None for a question that was not answered."""
  table: dict[str, Row | None] = dict.fromkeys(ids)
  for row in rows:
    if row["id"] in ids:
      table[row["id"]] = row
  return table


def _answer_line(run: str, row: Row | None) -> Markup:
  """The answer of a run in a sample."""
  answer = "no answer" if row is None else samples.answer_text(row)
  return element("div", element("span", f"{run}: ", class_="faint"), answer)
