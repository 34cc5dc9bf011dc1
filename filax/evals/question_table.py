# SPDX-License-Identifier: Apache-2.0
"""A table of questions that a reader filters and searches.

It shows one page of rows at a time.
"""

from collections.abc import Iterable, Sequence
import json
from typing import Any, NamedTuple

from filax.evals import html_page
from filax.evals.html_page import Markup, element

MOST_BYTES = 8_000_000  # The most bytes of rows in a page; further rows are only in answers.jsonl.
NO_SCRIPT = Markup("<noscript><p>The table needs JavaScript.</p></noscript>")

Cell = str | Sequence[str]  # Several texts where a question is in several groups.


class TableColumn(NamedTuple):
  """A column of kind id | text | question | choice.

  A choice is filtered by its values.
  """

  title: str
  kind: str = "text"


class PackedRows:
  """Rows as the script reads them, choices as numbers of their texts."""

  def __init__(self, columns: Sequence[TableColumn]):
    self.columns = columns
    self.rows: list[list[Any]] = []
    self.bytes = 0
    self.numbers: list[dict[str, int]] = [{} for _ in columns]  # Text -> number, of each choice.

  def add_row(self, row: Sequence[Cell]) -> bool:
    """Adds a row; False if it does not fit into the page."""
    cells: list[Any] = []
    for place, cell in enumerate(row):
      cells.append(self._packed(place, cell))
    text = json.dumps(cells, ensure_ascii=False)
    self.bytes += len(text.encode("utf-8", "replace"))
    if self.bytes > MOST_BYTES:
      return False
    self.rows.append(cells)
    return True

  def to_json(self) -> dict[str, Any]:
    """The content of the page's JSON block."""
    described = []
    for column, numbers in zip(self.columns, self.numbers, strict=True):
      description: dict[str, Any] = column._asdict()
      if column.kind == "choice":
        description["values"] = list(numbers)
      described.append(description)
    return dict(columns=described, rows=self.rows)

  def _packed(self, place: int, cell: Cell) -> Any:
    if self.columns[place].kind != "choice":
      return cell
    numbers = self.numbers[place]
    texts = [cell] if isinstance(cell, str) else cell
    packed = [numbers.setdefault(text, len(numbers)) for text in texts]
    return packed[0] if len(packed) == 1 else packed


def table_script() -> str:
  """The script of pages that hold such a table."""
  return html_page.resource("question_table.js")


def question_table(
  name: str, columns: Sequence[TableColumn], rows: Iterable[Sequence[Cell]], total: int
) -> list[Markup]:
  """The table under a unique name.

  A sentence says so if it holds only a part of `total` rows.
  """
  packed = PackedRows(columns)
  for row in rows:
    if not packed.add_row(row):
      break
  parts = []
  count = len(packed.rows)
  if count < total:
    sentence = f"The table holds the first {count:,} of {total:,}; answers.jsonl has all."
    parts.append(element("p", sentence, class_="warn"))
  parts.append(element("div", class_="card questions", data_source=name))
  parts.append(html_page.json_block(name, packed.to_json()))
  parts.append(NO_SCRIPT)
  return parts
