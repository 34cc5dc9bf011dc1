# SPDX-License-Identifier: Apache-2.0
"""report.html: runs and benchmarks on one page, beside published scores."""

from collections.abc import Iterable, Mapping, Sequence
import os
from typing import Any

from filax import files
from filax.evals import html_page, samples, score_bars
from filax.evals.html_page import Markup, element, points
from filax.evals.report import GatheredRuns, ReportedRun, build_report, by_benchmark
from filax.evals.thumbnails import make_thumbnails

NOT_COMPARABLE = "*"
OTHER_PROTOCOL = "≠"
SAMPLES = 6  # Questions of a benchmark.
MOST_PICTURES = 24  # Of a page.


def write_report(path: str | os.PathLike, gathered: GatheredRuns) -> dict[str, Any]:
  """Writes the page and returns the report's numbers. Raises OSError."""
  report = build_report(gathered)
  with files.write_atomically(path) as file:
    file.write(report_page(report, gathered).encode())
  return report


def report_page(report: Mapping[str, Any], gathered: GatheredRuns) -> str:
  """The HTML of a report."""
  benchmarks = report["benchmarks"]
  runs = html_page.counted(len(report["runs"]), "run")
  parts = [
    element("h1", "Evaluations"),
    element("p", f"{runs} on {html_page.counted(len(benchmarks), 'benchmark')}.", class_="faint"),
  ]
  if report["unreadable"]:
    warnings = html_page.bullet_list(report["unreadable"])
    parts.append(element("div", warnings, class_="card warn", style="margin-bottom:12px"))
  parts += [_matrix(report), _legend()]
  pictures = MOST_PICTURES
  for name, evaluated in by_benchmark(gathered.runs).items():
    picked = samples.pick_samples(evaluated[0].results.answers, min(SAMPLES, pictures))
    pictures -= len(picked)
    parts += _benchmark_parts(name, benchmarks[name], evaluated, picked)
  return html_page.whole_page("Evaluations", parts)


def _matrix(report: Mapping[str, Any]) -> Markup:
  """A row for each run and each published model, a column for each benchmark."""
  benchmarks = report["benchmarks"]
  rows = []
  for run in report["runs"]:
    cells = [_run_cell(numbers["runs"], run) for numbers in benchmarks.values()]
    rows.append([element("b", run), *cells])
  models = _models(benchmarks.values())
  for model in models:
    cells = [_published_cell(numbers, model) for numbers in benchmarks.values()]
    rows.append([model, *cells])
  return html_page.table(["", *benchmarks], rows, class_="matrix", published=len(models))


def _legend() -> Markup:
  sentence = (
    f"Scores in points. {NOT_COMPARABLE} is not comparable with published scores; the reasons are "
    f"below. {OTHER_PROTOCOL} marks a published score whose protocol is not stated, or under which "
    "no run here is comparable."
  )
  return element("p", sentence, class_="faint small", style="margin-top:10px")


def _run_cell(runs: Sequence[Mapping[str, Any]], name: str) -> Markup:
  """The score of a run, several if it has several evaluations of the benchmark."""
  cells = []
  for numbers in runs:
    if numbers["run"] != name:
      continue
    mark = "" if numbers["comparable"] else NOT_COMPARABLE
    reasons = " ".join(map(str, numbers["reasons"]))
    cells.append(element("span", f"{points(numbers['score'])}{mark}", title=reasons))
  return html_page.joined(cells, " / ") if cells else Markup(html_page.NOTHING)


def _models(benchmarks: Iterable[Mapping[str, Any]]) -> list[str]:
  models: dict[str, None] = {}
  for numbers in benchmarks:
    models.update(dict.fromkeys([score["model"] for score in _main_scores(numbers)]))
  return list(models)


def _main_scores(numbers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  """The published scores of the metric that the runs report."""
  metric = numbers["runs"][0]["metric"]
  return [score for score in numbers["published"] if score["metric"] in ("", metric)]


def _published_cell(numbers: Mapping[str, Any], model: str) -> Markup:
  for score in _main_scores(numbers):
    if score["model"] == model:
      mark = f" {OTHER_PROTOCOL}" if score["mismatch"] else ""
      text = f"{points(score['score'])}{mark}"
      return element("span", text, title=f"{score['source']}. {score['mismatch']}")
  return Markup("")


def _benchmark_parts(
  name: str,
  numbers: Mapping[str, Any],
  evaluated: Sequence[ReportedRun],
  picked: Sequence[Mapping[str, Any]],
) -> list[Markup]:
  """The section of one benchmark."""
  parts = [element("h1", name, style="margin-top:64px")]
  parts += [_run_table(numbers["runs"]), _reasons(numbers["runs"])]
  if numbers["published"]:
    parts += [element("h2", "Published"), _published_table(numbers["published"])]
  parts += _columns(numbers["runs"])
  parts += [element("h2", "What was counted"), _count_table(numbers["runs"])]
  for run in evaluated:
    parts += _odd_parts(run)
  parts += _sample_parts(evaluated, picked)
  return parts


def _run_table(runs: Sequence[Mapping[str, Any]]) -> Markup:
  """All averages of each run, and how it asked."""
  names: dict[str, None] = {}
  for numbers in runs:
    names.update(dict.fromkeys([numbers["metric"], *numbers["scores"]]))
  rows = []
  for numbers in runs:
    scores = []
    for name in names:
      text = points(numbers["scores"].get(name))
      is_main = name == numbers["metric"]
      scores.append(element("b", text) if is_main else text)
    protocol = f"{numbers['protocol'] or 'none'} {numbers['protocol_version']}".strip()
    comparable = "yes" if numbers["comparable"] else "no"
    rows.append(
      [numbers["run"], *scores, protocol, numbers["frames"] or html_page.NOTHING, comparable]
    )
  return html_page.table(["run", *names, "protocol", "frames", "comparable"], rows)


def _reasons(runs: Sequence[Mapping[str, Any]]) -> Markup:
  """Why runs are not comparable, and what else must be known of them."""
  sentences = []
  for numbers in runs:
    for sentence in _run_notes(numbers):
      sentences.append(f"{numbers['run']}: {sentence}")
  if not sentences:
    return Markup("")
  return element("div", html_page.bullet_list(sentences), class_="faint", style="margin-top:12px")


def _run_notes(numbers: Mapping[str, Any]) -> list[str]:
  sentences = list(map(str, numbers["reasons"]))
  if not numbers["finished"]:
    sentences.append("The run has not finished.")
  if numbers["note"]:
    sentences.append(numbers["note"])
  return sentences + numbers["notes"]


def _published_table(scores: Sequence[Mapping[str, Any]]) -> Markup:
  rows = []
  for score in scores:
    notes = [score["note"]]
    if score["mismatch"]:
      notes.append(f"{OTHER_PROTOCOL} {score['mismatch']}.")
    rows.append(
      [
        score["model"],
        f"{points(score['score'])} {score['metric']}".strip(),
        score["protocol"] or "not stated",
        score["frames"],
        score["source"],
        " ".join(filter(None, notes)),
      ]
    )
  head = ["model", "score", "protocol", "frames", "source", ""]
  return html_page.table(head, rows, class_="words many")


def _columns(runs: Sequence[Mapping[str, Any]]) -> list[Markup]:
  """Bars for each column, or numbers alone for many runs."""
  columns: dict[str, None] = {}
  for numbers in runs:
    columns.update(dict.fromkeys(numbers["by"]))
  names = [numbers["run"] for numbers in runs]
  parts = []
  for column in columns:
    groups = score_bars.column_groups([numbers["by"].get(column, {}) for numbers in runs])
    if not groups:
      continue
    parts.append(element("h2", f"By {column.replace('_', ' ')}"))
    if len(runs) > score_bars.SERIES:
      parts.append(_group_table(groups, names))
    else:
      bars = score_bars.score_bars(groups, names, runs[0]["chance"])
      parts.append(html_page.card(bars))
  return parts


def _group_table(groups: Sequence[score_bars.GroupScores], names: Sequence[str]) -> Markup:
  rows = []
  for group in groups:
    scores = [points(score) for score in group.scores]
    rows.append([group.name or "(none)", *scores, f"{group.questions:,}"])
  return html_page.table(["", *names, "questions"], rows, class_="matrix")


def _count_table(runs: Sequence[Mapping[str, Any]]) -> Markup:
  columns = ("total", "questions", "skipped", "unparsed", "empty", "degenerate")
  rows = []
  for numbers in runs:
    rows.append([numbers["run"], *[f"{numbers[column]:,}" for column in columns]])
  head = ["run", "questions", "answered", "skipped", "not understood", "empty", "degenerate"]
  return html_page.table(head, rows)


def _odd_parts(run: ReportedRun) -> list[Markup]:
  """The folded odd answers of a run."""
  lists = samples.odd_answers(run.results)
  if not lists:
    return []
  return [html_page.folded(f"Odd answers of {run.name}", *lists)]


def _sample_parts(
  evaluated: Sequence[ReportedRun], picked: Sequence[Mapping[str, Any]]
) -> list[Markup]:
  """Questions with the answers of every run; [] where the licence forbids it."""
  if not picked or not all(run.results.result["shows_text"] for run in evaluated):
    return []
  wanted = {row["id"] for row in picked}
  answers = []
  for run in evaluated:
    rows = {row["id"]: row for row in run.results.answers if row["id"] in wanted}
    answers.append((run.name, rows))
  thumbnails = make_thumbnails(samples.media_paths(picked), len(picked))
  cards = []
  for row in picked:
    lines = [_answer_line(name, rows.get(row["id"])) for name, rows in answers]
    cards.append(samples.sample_card(row, thumbnails, lines))
  return [
    element("h2", "Sample answers"),
    element("div", *cards, class_="samples"),
    *samples.unreadable_note(thumbnails),
  ]


def _answer_line(name: str, row: Mapping[str, Any] | None) -> Markup:
  """The answer of a run in a sample."""
  run = element("span", f"{name}: ", class_="faint")
  if row is None:
    return element("div", run, "not asked")
  return element("div", run, samples.answer_text(row))
