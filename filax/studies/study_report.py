# SPDX-License-Identifier: Apache-2.0
"""The report of a study: report.json, report.md, report.html and figure.png."""

import collections
from collections.abc import Iterator, Sequence
import itertools
import json
import pathlib
from typing import Any

from filax import files
from filax.evals import html_page
from filax.evals.html_page import NOTHING, element, points, signed_points
from filax.studies.cell_files import CellResult
from filax.studies.crossed import CrossedMean
from filax.studies.study_figure import draw_study
from filax.studies.study_table import (
  AGREES,
  DISAGREES,
  NOT_RUN,
  UNDECIDED,
  ContrastVerdict,
  StudyNumbers,
  TableEntry,
)

TOO_SMALL = 0.10  # An undecided contrast that could not see less needs a larger study.
STYLE = """
td.agrees { color: var(--good); font-weight: 600; }
td.disagrees { color: var(--bad); font-weight: 600; }
img { max-width: 100%; background: white; border-radius: 6px; }
"""
_HOW_TO_READ = (
  "Scores are percentages, with the 95 % interval over training seeds and questions (videos are "
  "drawn with all their questions). A verdict compares the same questions under the same seeds: "
  "agrees if the whole interval of the difference lies above 0, disagrees if it lies below, "
  "undecided otherwise. The smallest difference is the one that would have been seen in 80 % of "
  "repetitions. Each interval stands for itself: of 20 contrasts without any difference, one is "
  "expected to be decided by chance."
)


def write_report(numbers: StudyNumbers, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes the report's files; returns their paths."""
  folder.mkdir(parents=True, exist_ok=True)
  texts = {
    "report.json": json.dumps(report_values(numbers), indent=1) + "\n",
    "report.md": markdown(numbers),
  }
  paths = []
  for name, text in texts.items():
    paths.append(folder / name)
    _write(paths[-1], text.encode())
  figure = draw_study(numbers)
  paths.append(folder / "figure.png")
  _write(paths[-1], figure)
  paths.append(folder / "report.html")
  _write(paths[-1], page(numbers, figure).encode())
  return paths


def _write(path: pathlib.Path, content: bytes) -> None:
  with files.write_atomically(path) as file:
    file.write(content)


def report_values(numbers: StudyNumbers) -> dict[str, Any]:
  """The numbers of a study for JSON."""
  design = numbers.design
  table = []
  for entry in numbers.entries:
    row = dict(cell=entry.cell, column=entry.column, paper=entry.published)
    table.append(row | _mean_values(entry.mean))
  contrasts = []
  for verdict in numbers.verdicts:
    claim = verdict.contrast
    row = dict(
      column=claim.column,
      higher=claim.higher,
      lower=claim.lower,
      source=claim.source,
      verdict=verdict.verdict,
      smallest_difference=verdict.smallest,
      paper=verdict.published,
    )
    contrasts.append(row | _mean_values(verdict.difference))
  seconds = {}
  for name, results in numbers.cells.items():
    seconds[name] = [result.seconds for result in results]
  return dict(
    schema=1,
    study=design.name,
    title=design.title,
    paper=design.paper,
    seeds=numbers.seeds,
    missing=numbers.missing,
    outdated=list(numbers.outdated),
    unlike=numbers.unlike,
    table=table,
    contrasts=contrasts,
    seconds=seconds,
    commits=commits(numbers),
    devices=devices(numbers),
  )


def _mean_values(mean: CrossedMean | None) -> dict[str, Any]:
  if mean is None:
    return dict(mean=None)
  return dict(
    mean=mean.mean,
    low=mean.low if mean.has_interval else None,
    high=mean.high if mean.has_interval else None,
    seeds=mean.seeds,
    questions=mean.questions,
  )


def commits(numbers: StudyNumbers) -> list[str]:
  """The commits that made the cells."""
  names = set()
  for result in _all_results(numbers):
    names.update(result.commit.split(", "))
  return sorted(names)


def devices(numbers: StudyNumbers) -> list[str]:
  """The kinds of devices that made the cells."""
  names = {result.device for result in _all_results(numbers)}
  return sorted(names)


def _all_results(numbers: StudyNumbers) -> Iterator[CellResult]:
  """The results of all cells and seeds."""
  return itertools.chain.from_iterable(numbers.cells.values())


def table_head(numbers: StudyNumbers) -> list[str]:
  """The head of the table of cells."""
  head = [""]
  for column in numbers.design.columns.values():
    head.append(column.name)
    if _has_paper_numbers(numbers, column.name):
      head.append(f"paper: {column.paper or column.name}")
  return head


def table_rows(numbers: StudyNumbers) -> list[list[str]]:
  """A row for every cell."""
  rows = []
  for cell in numbers.design.cells.values():
    row = [cell.label]
    for column in numbers.design.columns:
      entry = numbers.entry(cell.name, column)
      row.append(mean_text(entry.mean))
      if _has_paper_numbers(numbers, column):
        row.append(NOTHING if entry.published is None else f"{entry.published:g}")
    rows.append(row)
  return rows


def _has_paper_numbers(numbers: StudyNumbers, column: str) -> bool:
  return any(name == column for name, _ in numbers.design.published)


def mean_text(mean: CrossedMean | None) -> str:
  """A score with its interval: "62.3 (58.0 to 66.5)".

  The interval of a share ends at 0 and 100.
  """
  if mean is None:
    return NOTHING
  text = points(mean.mean)
  if not mean.has_interval:
    return text
  low, high = mean.share_bounds
  return f"{text} ({points(low)} to {points(high)})"


CONTRAST_HEAD = ("column", "claim", "difference", "paper", "verdict", "smallest difference")


def contrast_rows(numbers: StudyNumbers) -> list[list[str]]:
  """A row for every contrast."""
  rows = []
  for verdict in numbers.verdicts:
    claim = verdict.contrast
    cells = numbers.design.cells
    text = f"{cells[claim.higher].label} above {cells[claim.lower].label}"
    if claim.source:
      text += f" [{claim.source}]"
    rows.append(
      [
        claim.column,
        text,
        _difference_text(verdict.difference),
        NOTHING if verdict.published is None else f"{verdict.published:+.1f}",
        verdict.verdict,
        _smallest_text(verdict),
      ]
    )
  return rows


def _difference_text(difference: CrossedMean | None) -> str:
  if difference is None:
    return NOTHING
  text = signed_points(difference.mean)
  if difference.has_interval:
    text += f" ({signed_points(difference.low)} to {signed_points(difference.high)})"
  return text


def _smallest_text(verdict: ContrastVerdict) -> str:
  if verdict.smallest is None:
    return NOTHING
  text = signed_points(verdict.smallest).removeprefix("+")
  if verdict.verdict == UNDECIDED and verdict.smallest > TOO_SMALL:
    text += ", study too small"
  return text


def counts_line(numbers: StudyNumbers) -> str:
  """How many contrasts agree, in words."""
  counts = collections.Counter(verdict.verdict for verdict in numbers.verdicts)
  parts = []
  for name in (AGREES, DISAGREES, UNDECIDED, NOT_RUN):
    if counts[name]:
      parts.append(f"{counts[name]} {name}")
  return ", ".join(parts)


def facts_lines(numbers: StudyNumbers) -> list[str]:
  """Sentences about what was run, and what is missing."""
  lines = [numbers.design.paper]
  if numbers.design.note:
    lines.append(numbers.design.note)
  asked = _question_count(numbers.entries)
  if asked:
    lines.append(f"Up to {asked} questions a column, {seeds_text(numbers)}.")
  if names := commits(numbers):
    lines.append(f"Code: {', '.join(name or 'of no commit' for name in names)}.")
    lines.append(f"Device: {', '.join(devices(numbers))}.")
  if numbers.missing:
    lines.append(f"Not run, or not with all seeds: {', '.join(numbers.missing)}.")
  if numbers.unlike:
    lines.append(
      f"Asked other questions than most cells: {', '.join(numbers.unlike)}. A claim compares only "
      "what both of its cells were asked."
    )
  if numbers.empty_columns:
    lines.append(
      f"Without any question: {', '.join(numbers.empty_columns)}. Check field and pattern of the "
      "column."
    )
  if numbers.outdated:
    lines.append(f"Of another config, and not counted: {', '.join(numbers.outdated)}.")
  return lines


def seeds_text(numbers: StudyNumbers) -> str:
  """The seeds in words: how many have results so far."""
  if not any(cell.run for cell in numbers.design.cells.values()):
    return "one checkpoint"
  finished = numbers.finished_seeds
  text = f"{numbers.seeds} seed{'s' * (numbers.seeds > 1)}"
  if finished < numbers.seeds:
    text = f"{finished} of {text}"
  return text if finished > 1 else f"{text}; one seed decides nothing"


def _question_count(entries: Sequence[TableEntry]) -> int:
  count = 0
  for entry in entries:
    if entry.mean is not None:
      count = max(count, entry.mean.questions)
  return count


def markdown(numbers: StudyNumbers) -> str:
  """The report as Markdown."""
  parts = [f"# {numbers.design.title}", "", *facts_lines(numbers), ""]
  parts += markdown_table(table_head(numbers), table_rows(numbers))
  parts.append("")
  if numbers.verdicts:
    parts += [f"Contrasts: {counts_line(numbers)}.", ""]
    parts += markdown_table(CONTRAST_HEAD, contrast_rows(numbers))
    parts.append("")
  parts.append(_HOW_TO_READ)
  return "\n".join(parts) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  """The lines of a table."""
  rule = ["---"] * len(head)
  lines = []
  for row in (head, rule, *rows):
    cells = [cell.replace("|", "\\|") for cell in row]
    lines.append(f"| {' | '.join(cells)} |")
  return lines


def page(numbers: StudyNumbers, figure: bytes) -> str:
  """The report as a page that refers to no other file."""
  url = html_page.png_url(figure)
  parts: list[Any] = [element("h1", numbers.design.title)]
  parts += [html_page.note(line) for line in facts_lines(numbers)]
  parts.append(html_page.table(table_head(numbers), table_rows(numbers)))
  parts.append(html_page.card(element("img", src=url, alt="Scores with their intervals")))
  if numbers.verdicts:
    parts.append(html_page.heading(f"Contrasts: {counts_line(numbers)}"))
    parts.append(_contrast_table(numbers))
  parts.append(html_page.note(_HOW_TO_READ))
  return html_page.whole_page(numbers.design.title, parts, style=STYLE)


def _contrast_table(numbers: StudyNumbers) -> html_page.Markup:
  lines = [html_page.table_row("th", CONTRAST_HEAD)]
  for row in contrast_rows(numbers):
    cells = []
    for title, text in zip(CONTRAST_HEAD, row, strict=True):
      style = text.replace(" ", "_") if title == "verdict" else ""
      cells.append(element("td", text, class_=style))
    lines.append(element("tr", *cells))
  return html_page.card(element("table", *lines))
