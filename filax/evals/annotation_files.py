# SPDX-License-Identifier: Apache-2.0
"""Reads annotation files of benchmarks: parquet, CSV, JSON and JSON lines."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import csv
import dataclasses
import glob
import io
import json
import os
import pathlib
import re
from typing import Any

import pyarrow
import pyarrow.parquet

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.reader import BadRecord, RecordError
from filax.evals.kit import BadAnnotation, Example, Source

Row = Mapping[str, Any]

_SHARD = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})\.")
_LFS = b"version https://git-lfs.github.com/spec/"  # The first bytes of a pointer file.


def find_files(source: Source, names: Sequence[str], publisher: str) -> list[str]:
  """The files of the first of `names` that exists in the benchmark's folder.

  A name may be a pattern for a file in shards ("mc_question/test-*.parquet"). [] if none exists and
  `source.allow_missing` is set; raises MissingAnnotation otherwise.
  """
  if os.path.isfile(source.data):
    raise BadAnnotation(f"{source.data} is a file. Set --data to the folder that has {names[0]}.")
  paths = existing_files(source, names)
  if paths:
    _check_shards(paths)
    source.annotations.extend(paths)
  else:
    source.find_annotation([names[0]], publisher)
  return paths


def existing_files(source: Source, names: Sequence[str]) -> list[str]:
  """The files of the first of `names` that exists; [] without any."""
  for name in names:
    paths = glob.glob(os.path.join(glob.escape(source.data), name))
    if paths:
      return sorted(paths)
  return []


def _check_shards(paths: Sequence[str]) -> None:
  """Raises BadAnnotation if a file in shards lacks some of them."""
  shard = _SHARD.search(os.path.basename(paths[0]))
  if shard is not None and int(shard["count"]) != len(paths):
    raise BadAnnotation(
      f"{os.path.dirname(paths[0])} has {len(paths)} of the {int(shard['count'])} files of "
      f"{os.path.basename(paths[0])}."
    )


def table_rows(path: str) -> list[Row]:
  """The records of a .parquet, .csv, .jsonl or .json file.

  Raises BadAnnotation for a damaged file.
  """
  content = _content(path)
  suffix = pathlib.Path(path).suffix.lower()
  if suffix == ".parquet":
    return _parquet_rows(path, content)
  if suffix == ".csv":
    return _csv_rows(path, content)
  text = _text(path, content)
  value = _json_lines(path, text) if suffix == ".jsonl" else _json_or_lines(path, text)
  if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
    raise BadAnnotation(f"{path} is no list of records. It may be another file of this name.")
  return value


def text_lines(path: str) -> list[str]:
  """The lines of a UTF-8 text that have words."""
  lines = _text(path, _content(path)).splitlines()
  return list(filter(str.strip, lines))


def json_object(path: str) -> dict[str, Any]:
  """The object of a .json file. Raises BadAnnotation for another file."""
  text = _text(path, _content(path))
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise BadAnnotation(f"{path} is no JSON: {error}.") from None
  if not isinstance(value, dict):
    raise BadAnnotation(f"{path} begins with {excerpt(value)}, not with an object.")
  return value


def _content(path: str) -> bytes:
  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise BadAnnotation(f"{path} cannot be read: {error.strerror}.") from None
  if content.startswith(_LFS):
    raise BadAnnotation(f"{path} is a Git LFS pointer. Download the file it stands for.")
  return content


def _text(path: str, content: bytes) -> str:
  try:
    return content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise BadAnnotation(f"{path} is no UTF-8 text: {error}.") from None


def _parquet_rows(path: str, content: bytes) -> list[Row]:
  try:
    return pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
  except (ValueError, OSError, pyarrow.ArrowException) as error:
    raise BadAnnotation(f"{path} is no parquet file: {error}.") from None


def _csv_rows(path: str, content: bytes) -> list[Row]:
  text = _text(path, content)
  try:
    return list(csv.DictReader(io.StringIO(text, newline="")))
  except csv.Error as error:
    raise BadAnnotation(f"{path} is no CSV: {error}.") from None


def _json_or_lines(path: str, text: str) -> Any:
  """The value of a .json file, which may hold JSON lines."""
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    if error.msg == "Extra data":
      return _json_lines(path, text)
    raise BadAnnotation(f"{path} is no JSON: {error}.") from None
  except RecursionError:
    raise BadAnnotation(f"{path} is nested too deeply.") from None


def _json_lines(path: str, text: str) -> list[Any]:
  rows = []
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    try:
      rows.append(json.loads(line))
    except (ValueError, RecursionError) as error:
      raise BadAnnotation(f"{path}:{number} is no JSON: {error}.") from None
  return rows


def check_fields(path: str, rows: Sequence[Row], fields: Sequence[str]) -> None:
  """Checks that some record has the benchmark's fields.

  Raises BadAnnotation, with the fields of the file, for another version of the file.
  """
  expected = set(fields)
  if not rows or any(expected.issubset(row) for row in rows):
    return
  present = ", ".join(sorted(map(str, rows[0]))) or "none"
  missing = ", ".join(sorted(expected.difference(rows[0])))
  raise BadAnnotation(
    f"{path} has the fields {present}, but not {missing}. The benchmark's fields are "
    f"{', '.join(fields)}; this may be another version of the file."
  )


def parsed_rows(
  source: Source, path: str, rows: Sequence[Row], parse: Callable[[Row], Example]
) -> Iterator[Example]:
  """The examples of records; bad records are added to `source.report`."""
  for number, row in enumerate(rows, 1):
    try:
      example = parse(row)
    except RecordError as error:
      source.report.bad.append(BadRecord(path, number, str(error)))
    else:
      source.report.samples += 1
      yield example


def numbered_ids(examples: Iterable[Example]) -> Iterator[Example]:
  """Examples whose repeated ids are numbered: "a", "a/1", "a/2"."""
  counts: collections.Counter[str] = collections.Counter()
  for example in examples:
    number = counts[example.id]
    counts[example.id] += 1
    yield dataclasses.replace(example, id=f"{example.id}/{number}") if number else example


def text_field(row: Row, name: str) -> str:
  """A text, or a number as text, of a record.

  Raises RecordError if it is absent, empty or of another type.
  """
  value = row.get(name)
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  if not isinstance(value, str):
    raise RecordError(f"has {name} {excerpt(value)}, which is no text")
  if not value.strip():
    raise RecordError(f"has an empty {name}")
  return value


def texts_field(row: Row, name: str) -> tuple[str, ...]:
  """A list of texts of a record. Raises RecordError for another value."""
  value = row.get(name)
  if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
    return tuple(value)
  raise RecordError(f"has {name} {excerpt(value)}, which is no list of texts")


def has_value(row: Row, name: str) -> bool:
  """Whether a record has a value other than None, NaN and the empty text."""
  value = row.get(name)
  if value is None or value != value:  # NaN differs from itself.
    return False
  return not isinstance(value, str) or bool(value.strip())


def number_field(row: Row, name: str) -> float:
  """A finite number of a record, which may be written as text.

  Raises RecordError for another value.
  """
  return as_number(row.get(name), name)


def as_number(value: Any, name: str) -> float:
  """A value as a finite number. Raises RecordError, with the name, for another value."""
  try:
    number = float(value)
  except (TypeError, ValueError):
    number = float("nan")
  if isinstance(value, bool) or not abs(number) < float("inf"):
    raise RecordError(f"has {name} {excerpt(value)}, which is no number")
  return number


def index_field(row: Row, name: str, count: int) -> int:
  """The number of an option, 0 to count - 1. Raises RecordError for another value."""
  number = number_field(row, name)
  if number not in range(count):
    raise RecordError(f"has {name} {excerpt(row[name])}, which is none of 0 to {count - 1}")
  return int(number)
