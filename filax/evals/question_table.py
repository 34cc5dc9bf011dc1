# SPDX-License-Identifier: Apache-2.0
"""A table of questions that a reader filters and searches; a page of rows is drawn at a time."""

from collections.abc import Iterable, Sequence
import json
from typing import Any, NamedTuple

from filax.evals import html_page
from filax.evals.html_page import Markup

MOST_BYTES = 8_000_000  # Of the rows in a page; what goes beyond stays in answers.jsonl.
Cell = str | Sequence[str]  # Several words where a question is in several groups.


class TableColumn(NamedTuple):
  """A column: kind id | text | question | choice; a choice is filtered by its values."""

  title: str
  kind: str = "text"


def script() -> str:
  """The script of pages that hold such a table."""
  return html_page.resource("question_table.js")


def question_table(
  name: str, columns: Sequence[TableColumn], rows: Iterable[Sequence[Cell]], total: int
) -> Markup:
  """The table under a unique name, and a sentence if it holds only a part of `total` rows."""
  values: list[dict[str, int]] = [{} for _ in columns]  # Word -> its number, of each choice.
  packed: list[list[Any]] = []
  size = 0
  for row in rows:
    cells = _packed_row(columns, row, values)
    size += len(json.dumps(cells, ensure_ascii=False).encode("utf-8", "replace")) + 1
    if size > MOST_BYTES:
      break
    packed.append(cells)
  described = []
  for column, words in zip(columns, values, strict=True):
    description: dict[str, Any] = dict(title=column.title, kind=column.kind)
    if column.kind == "choice":
      description["values"] = list(words)
    described.append(description)
  parts = [
    html_page.element("div", class_="card questions", data_source=name),
    html_page.json_block(name, dict(columns=described, rows=packed)),
    Markup("<noscript><p>The table needs JavaScript; answers.jsonl has the rows.</p></noscript>"),
  ]
  if len(packed) < total:
    sentence = f"The table holds the first {len(packed):,} of {total:,}; answers.jsonl has all."
    parts.insert(0, html_page.element("p", sentence, class_="warn"))
  return html_page.joined(parts)


def _packed_row(
  columns: Sequence[TableColumn], row: Sequence[Cell], values: Sequence[dict[str, int]]
) -> list[Any]:
  """The cells of a row; choices as the numbers of their words."""
  cells: list[Any] = []
  for column, cell, words in zip(columns, row, values, strict=True):
    if column.kind != "choice":
      cells.append(cell)
      continue
    texts = [cell] if isinstance(cell, str) else cell
    numbers = [words.setdefault(text, len(words)) for text in texts]
    cells.append(numbers[0] if len(numbers) == 1 else numbers)
  return cells
