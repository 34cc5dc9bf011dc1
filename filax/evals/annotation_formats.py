# SPDX-License-Identifier: Apache-2.0
"""Further formats of annotation files.

CSV, JSON lines, JSON objects, lines of text.
"""

from collections.abc import Sequence
import csv
import io
import json
import pathlib
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.media import remote
from filax.evals.annotation_files import Row
from filax.evals.kit import BadAnnotation


def csv_rows(path: str, fields: Sequence[str]) -> list[Row]:
  """The records of a CSV file with a header.

  Raises BadAnnotation for other content or fields.
  """
  text = io.StringIO(_text(path), newline="")
  try:
    rows: list[Row] = list(csv.DictReader(text))
  except csv.Error as error:
    raise BadAnnotation(f"{path} is not a CSV file: {error}.") from None
  check_fields(path, rows, fields)
  return rows


def json_line_rows(path: str, fields: Sequence[str]) -> list[Row]:
  """The records of a file with a JSON object on each line.

  Raises BadAnnotation for other content or fields.
  """
  rows: list[Row] = []
  for number, line in enumerate(_text(path).split("\n"), 1):
    if not line.strip():
      continue
    row = _json_value(f"{path}:{number}", line)
    if not isinstance(row, dict):
      raise BadAnnotation(f"{path}:{number} is {excerpt(row)}, not an object.")
    rows.append(row)
  check_fields(path, rows, fields)
  return rows


def json_object(path: str) -> dict[str, Any]:
  """The object of a .json file. Raises BadAnnotation for another file."""
  value = _json_value(path, _text(path))
  if not isinstance(value, dict):
    raise BadAnnotation(f"{path} is {excerpt(value)}, not an object. It may be another file.")
  return value


def text_lines(path: str) -> list[str]:
  """The lines of a UTF-8 text that have words."""
  return list(filter(str.strip, _text(path).splitlines()))


def check_fields(path: str, rows: Sequence[Row], fields: Sequence[str]) -> None:
  """Checks that some record has all fields.

  Raises BadAnnotation, which names the fields of the first record.
  """
  expected = set(fields)
  if not rows or any(expected.issubset(row) for row in rows):
    return
  present = ", ".join(map(str, rows[0])) or "none"
  missing = [name for name in fields if name not in rows[0]]
  raise BadAnnotation(
    f"{path} has no {', '.join(missing)}: it is of another version. Its fields are {present}; "
    f"expected are {', '.join(fields)}."
  )


def _text(path: str) -> str:
  """The text of a UTF-8 file, without its byte order mark."""
  try:
    return pathlib.Path(remote.local_path(path)).read_bytes().decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise BadAnnotation(f"{path} is not UTF-8 text: {error}.") from None


def _json_value(place: str, text: str) -> Any:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise BadAnnotation(f"{place} is not JSON: {error}.") from None
