# SPDX-License-Identifier: Apache-2.0
"""Rows of published annotation files, and checks of their fields."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import json
import os
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from data_pipelines.manifest.report import BadRecord, RecordError
from data_pipelines.media import remote
from filax.evals.kit import BadAnnotation, Example, Source
from filax.evals.metrics.options import LETTERS

_LFS_POINTER = b"version https://git-lfs"  # What a clone without Git LFS has in place of a file.

Row = Mapping[str, Any]


class AnnotationFile(NamedTuple):
  """An annotation file, and the folder that its publisher's paths begin at."""

  path: str
  folder: str


def find_file(
  source: Source, folders: Sequence[str], names: Sequence[str], publisher: str
) -> AnnotationFile | None:
  """The first of `names` in `source.data` or one of its `folders`.

  None if it is missing and may be. Raises MissingAnnotation otherwise.
  """
  places: dict[str, str] = {}
  for name in names:
    for folder in ("", *folders):
      places.setdefault(os.path.join(folder, name), folder)
  is_named = any(publisher in sentence for sentence in source.missing)
  path = source.find_annotation(tuple(places), "" if is_named else publisher)
  if path is None:
    return None
  folder = places[os.path.relpath(path, source.data)]
  return AnnotationFile(path, os.path.join(source.data, folder))


def read_rows(path: str, fields: Sequence[str]) -> list[Row]:
  """The rows of a JSON or parquet file.

  Raises BadAnnotation for other content, and for a first row without one of `fields`.
  """
  rows = _parquet_rows(path) if path.endswith(".parquet") else _json_rows(path)
  first = rows[0] if rows else {}
  missing = [name for name in fields if name not in first]
  if missing:
    raise BadAnnotation(
      f"{path} has no {', '.join(missing)}: it is of another version. Its fields are "
      f"{', '.join(first) or 'none'}; expected are {', '.join(fields)}."
    )
  return rows


def parsed_rows(
  source: Source, path: str, rows: Iterable[Row], parse: Callable[[int, Row], Example]
) -> Iterator[Example]:
  """An example per row; rows that break the format go to `source.report`.

  parse(number, row) counts rows from 0 and raises RecordError.
  """
  for number, row in enumerate(rows):
    try:
      example = parse(number, row)
    except RecordError as error:
      source.report.bad.append(BadRecord(path, number + 1, str(error)))
    else:
      source.report.samples += 1
      yield example


def text_field(row: Row, name: str) -> str:
  """A field that is a text. Raises RecordError for another."""
  value = row.get(name)
  if not isinstance(value, str):
    raise RecordError(f"has the {name} {value!r}, which is not a text")
  return value


def number_field(row: Row, name: str) -> float:
  """A field that is a number. Raises RecordError for another."""
  value = row.get(name)
  if not isinstance(value, int | float) or isinstance(value, bool):
    raise RecordError(f"has the {name} {value!r}, which is not a number")
  return value


def options_field(row: Row, name: str) -> tuple[str, ...]:
  """A field that lists the texts of 1 to 10 options.

  Raises RecordError for another.
  """
  options: Any = row.get(name)
  is_list = isinstance(options, list | tuple)
  if not is_list or not all(isinstance(option, str) for option in options):
    raise RecordError(f"has the {name} {options!r}, which is not a list of texts")
  if not 1 <= len(options) <= len(LETTERS):
    raise RecordError(f"has {len(options)} {name}; 1 to {len(LETTERS)} have letters")
  return tuple(options)


def option_letter(options: Sequence[str], answer: str) -> str | None:
  """The letter of the first option that is the answer, or None."""
  if answer not in options:
    return None
  return LETTERS[options.index(answer)]


def _json_rows(path: str) -> list[Row]:
  with open(remote.local_path(path), "rb") as file:
    content = file.read()
  _check_downloaded(path, content)
  try:
    rows = json.loads(content)
  except ValueError as error:
    raise BadAnnotation(f"{path} is not a whole JSON file: {error}.") from None
  if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
    raise BadAnnotation(f"{path} is not a list of records, but {type(rows).__name__}.")
  return rows


def _parquet_rows(path: str) -> list[Row]:
  with open(remote.local_path(path), "rb") as file:
    _check_downloaded(path, file.read(len(_LFS_POINTER)))
  try:
    return pyarrow.parquet.read_table(remote.local_path(path)).to_pylist()
  except (pyarrow.ArrowException, OSError) as error:
    reason = str(error).splitlines()[0]
    raise BadAnnotation(f"{path} is not a whole parquet file: {reason}") from None


def _check_downloaded(path: str, content: bytes) -> None:
  """Raises BadAnnotation for a pointer of Git LFS."""
  if content.startswith(_LFS_POINTER):
    raise BadAnnotation(f"{path} is only a pointer of Git LFS. Run git lfs pull in its folder.")
