# SPDX-License-Identifier: Apache-2.0
"""The part of page.html with the table of all questions."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from filax.evals import html_page, shown_rows
from filax.evals.html_page import Markup
from filax.evals.question_table import Cell, TableColumn, question_table
from filax.evals.results import Results, Row

FORBIDDEN = (
  "The licence of this benchmark forbids its texts and pictures on pages: the table holds ids, "
  "letters and verdicts only."
)


class ShownColumns(NamedTuple):
  """Which columns the table has."""

  shows_text: bool
  has_overlap: bool  # Whether answers have an IoU.
  has_flags: bool  # Whether any answer is degenerate.
  by: Sequence[str]  # The benchmark's columns.


def question_section(results: Results) -> list[Markup]:
  """The table of all questions; [] without answers."""
  if not results.answers:
    return []
  parts = [html_page.heading("Questions")]
  if not results.shows_text:
    parts.append(html_page.note(FORBIDDEN))
  shown = _shown_columns(results)
  rows = _question_rows(results.answers, shown)
  columns = _table_columns(shown)
  return parts + question_table("questions", columns, rows, len(results.answers))


def _shown_columns(results: Results) -> ShownColumns:
  rows = results.answers
  by = list(results.result["by"]) if results.shows_text else []
  has_overlap = any("iou" in row for row in rows)
  has_flags = any(row.get("flag") for row in rows)
  return ShownColumns(results.shows_text, has_overlap, has_flags, by)


def _table_columns(shown: ShownColumns) -> list[TableColumn]:
  columns = [TableColumn("id", "id")]
  if shown.shows_text:
    columns.append(TableColumn("question", "question"))
    columns.append(TableColumn("answer"))
    columns.append(TableColumn("expected"))
  else:
    columns.append(TableColumn("letter"))
  columns.append(TableColumn("verdict", "choice"))
  if shown.has_overlap:
    columns.append(TableColumn("IoU"))
  if shown.has_flags:
    columns.append(TableColumn("degenerate", "choice"))
  for column in shown.by:
    columns.append(TableColumn(html_page.column_title(column), "choice"))
  return columns


def _question_rows(rows: Sequence[Row], shown: ShownColumns) -> Iterator[list[Cell]]:
  """The cells of each question, in the order of `_table_columns`."""
  for row in rows:
    cells: list[Cell] = [shown_rows.short_text(row["id"])]
    if shown.shows_text:
      cells.append(shown_rows.shown_question(row, shown.shows_text))
    cells.append(shown_rows.shown_answer(row, shown.shows_text))
    if shown.shows_text:
      cells.append(shown_rows.shown_expected(row, shown.shows_text))
    cells.append(shown_rows.verdict(row))
    if shown.has_overlap:
      cells.append(_overlap(row))
    if shown.has_flags:
      cells.append(shown_rows.flag_words(row))
    for column in shown.by:
      cells.append(shown_rows.column_values(row, column))
    yield cells


def _overlap(row: Row) -> str:
  overlap = row.get("iou")
  return html_page.points(overlap) if isinstance(overlap, int | float) else ""
