# SPDX-License-Identifier: Apache-2.0
"""Reads and selects the records of a manifest, with their lines.

A manifest is .json (one array, or one object of records by the names of their videos), .jsonl (one
record per line), .parquet, .csv or .tsv (one record per row), a WebDataset .tar, the lines of
Charades-STA, or ArrayRecord (see `build_array_record`).
"""

import codecs
from collections.abc import Iterator
import functools
import json
import math
import os
import re
import stat
from typing import Any, BinaryIO

import numpy as np

from data_pipelines.manifest import json_text
from data_pipelines.manifest.charades_sta import is_sta_text, sta_record, sta_records
from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.keyed_records import is_keyed, keyed_record, keyed_records
from data_pipelines.manifest.parquet_records import (
  parquet_places,
  parquet_record_at,
  parquet_records,
)
from data_pipelines.manifest.report import BadRecord, ManifestError, ManifestReport, RecordError
from data_pipelines.manifest.table_records import is_table, table_record_at, table_records
from data_pipelines.manifest.tar_records import tar_places, tar_record_at, tar_records
from data_pipelines.manifest.text_window import TextWindow
from data_pipelines.media import array_record, remote

__all__ = [
  "BadRecord",
  "ManifestError",
  "ManifestReport",
  "RecordError",
  "located_records",
  "manifest_records",
  "record_at",
  "record_places",
  "select_records",
]

_STRATEGY = re.compile(r"all|(first|end|random):([0-9]+)|(first|end|random):([0-9.]+)%")
_HEAD = 16  # Bytes that tell kinds of files apart.
# Signatures of compressed and binary files that may contain a manifest.
COMPRESSED = {
  b"\x1f\x8b": "gzip",
  b"BZh": "bzip2",
  b"\xfd7zXZ": "xz",
  b"\x28\xb5\x2f\xfd": "zstd",
  b"PK\x03\x04": "zip",
  b"PAR1": "parquet",
  b"ARROW1": "arrow",
}
_READABLE = "Manifests are .json, .jsonl, .parquet, .csv, .tsv and .tar files, not compressed."


def select_records(count: int, strategy: str, seed: int = 0) -> np.ndarray:
  """The record numbers that a strategy selects of `count`, ascending.

  all | first:N | end:N | random:N, where N is a number or a percentage ("first:10%", rounded up).
  The same seed always draws the same records. Raises ValueError for an unknown strategy.
  """
  part, wanted = _parse_strategy(strategy, count)
  taken = min(count, wanted)
  if part == "end":
    return np.arange(count - taken, count)
  if part == "random":
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[:taken])
  return np.arange(taken)


def _parse_strategy(strategy: str, count: int) -> tuple[str, int]:
  """(all | first | end | random, number of records). Raises ValueError."""
  match = _STRATEGY.fullmatch(strategy)
  if match and strategy == "all":
    return "all", count
  if match and match[2]:
    return match[1], int(match[2])
  try:
    percentage = float(match[4]) if match else None
  except ValueError:  # Such as 1.2.3%.
    percentage = None
  if match is None or percentage is None:
    raise ValueError(
      f"The strategy {strategy!r} is not one of all, first:N, end:N, random:N, with N a number or "
      "a percentage such as 10%. Set it in config.data.train."
    )
  wanted = round(percentage * count / 100, 9)
  return match[3], math.ceil(wanted)


def manifest_records(manifest: str | os.PathLike) -> Iterator[tuple[int, Any]]:
  """(line, record) of a manifest; a RecordError for a damaged record.

  The line is the record's first; in an ArrayRecord, the number of the record, from 1. Raises
  ManifestError.
  """
  for located in located_records(manifest):
    yield located.line, located.record


def located_records(manifest: str | os.PathLike) -> Iterator[LocatedRecord]:
  """The records of a manifest with their places in the file.

  The file is read part by part. A RecordError stands for a damaged record. Raises ManifestError.
  """
  path = os.fspath(manifest)
  if _is_array_record(path):
    yield from _array_record(path)
    return
  with opened_manifest(path) as file:
    yield from _FILES.get(_suffix(path), _json_records)(path, file)


def record_places(manifest: str | os.PathLike) -> Iterator[LocatedRecord]:
  """`located_records`, but records that can be found without being read are None."""
  path = os.fspath(manifest)
  if _suffix(path) not in (".parquet", ".tar"):
    yield from located_records(path)
    return
  with opened_manifest(path) as file:
    if _suffix(path) == ".parquet":
      yield from parquet_places(path, file)
    else:
      _check_tar(path, file)
      yield from tar_places(file)


def record_at(manifest: str, file: BinaryIO, start: int, stop: int) -> Any:
  """The record at a place that `located_records` gave.

  `file`: the open manifest; not read for an ArrayRecord. Raises ValueError for anything but a
  record.
  """
  if _is_array_record(manifest):
    return _parsed_sample(array_record.read_number(manifest, start))
  suffix = _suffix(manifest)
  if suffix == ".tar":
    return tar_record_at(manifest, file, start, stop)
  if suffix == ".parquet":
    return parquet_record_at(manifest, file, start)
  if is_table(manifest):
    return table_record_at(manifest, file, start, stop)
  data = os.pread(file.fileno(), stop - start, start)
  if data[:1] not in (b"{", b"["):
    return _other_record(data)
  return json_text.parse_value(data.decode("utf-8", errors="surrogateescape"))


def _other_record(data: bytes) -> Any:
  """The record of a text without brackets. Raises ValueError."""
  if data[:1] == b'"' and data[-1:] == b"}":
    return keyed_record(data.decode("utf-8", errors="surrogateescape"))
  if b"##" in data:
    return sta_record(data)
  return json_text.parse_value(data.decode("utf-8", errors="surrogateescape"))


@functools.lru_cache(maxsize=100)  # It is asked for every record of a few manifests.
def _is_array_record(path: str) -> bool:
  return ".array_record" in os.path.basename(path)


@functools.lru_cache(maxsize=100)
def _suffix(path: str) -> str:
  return os.path.splitext(path)[1].lower()


def _tar_file_records(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The records of a tar.

  Raises ManifestError for a compressed or empty one.
  """
  _check_tar(path, file)
  yield from tar_records(path, file)


def _check_tar(path: str, file: BinaryIO) -> None:
  """Raises ManifestError for a compressed or an empty tar."""
  head = os.pread(file.fileno(), _HEAD, 0)
  for magic, name in COMPRESSED.items():
    if head.startswith(magic):
      raise ManifestError(
        f"The manifest {one_line(path)} is a {name} file. Unpack it to a plain .tar: media are "
        "read at their place in it."
      )
  if not head.strip(b"\0"):
    raise ManifestError(f"The manifest {one_line(path)} is empty.")


def is_json_text(path: str) -> bool:
  """Whether a manifest is read as JSON."""
  return not _is_array_record(path) and _suffix(path) not in _FILES


def skip_mark(path: str, file: BinaryIO) -> int:
  """Skips the byte order mark of a text; returns its bytes.

  Raises ManifestError for a file that is not a text in UTF-8.
  """
  head = file.read(_HEAD)
  _check_text(path, head)
  mark = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
  file.seek(mark)
  return mark


def _table_file_records(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  """The records of a table. Raises ManifestError for another file."""
  skip_mark(path, file)
  yield from table_records(path, file)


def _json_records(path: str, file: BinaryIO) -> Iterator[LocatedRecord]:
  mark = skip_mark(path, file)
  window = TextWindow(file, path, mark)
  beginning = None
  while beginning is None:
    if not window.extend():
      raise ManifestError(f"The manifest {one_line(path)} is empty.")
    beginning = re.search(r"\S", window.text)
  if beginning[0] == "[":
    yield from json_text.array_records(window)
  elif beginning[0] == "{" and is_keyed(window.text):
    yield from keyed_records(window)
  elif beginning[0] == "{":
    yield from json_text.line_records(window)
  elif is_sta_text(window.text):
    file.seek(mark)
    yield from sta_records(file)
  else:
    raise ManifestError(
      f"The manifest {one_line(path)} begins with neither [ nor {{: it is neither a JSON array nor "
      f"JSON lines. {_READABLE}"
    )


def _check_text(path: str, head: bytes) -> None:
  """Raises ManifestError unless a file begins like UTF-8 text."""
  for magic, name in COMPRESSED.items():
    if head.startswith(magic):
      raise ManifestError(f"The manifest {one_line(path)} has the format {name}. {_READABLE}")
  encoding = json.detect_encoding(head)
  if encoding not in ("utf-8", "utf-8-sig"):
    raise ManifestError(
      f"The manifest {one_line(path)} is text in {encoding.upper()}. Save it as UTF-8."
    )


def opened_manifest(path: str) -> BinaryIO:
  """Opens a regular file. Raises ManifestError."""
  try:
    local = remote.local_path(path)
    mode = os.stat(local).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # Opening a folder raises a clear error.
      return open(local, "rb")
    reason: str | None = "It is not a regular file"
  except OSError as error:
    reason = error.strerror
  except ValueError as error:  # A NUL in the path.
    reason = str(error)
  raise ManifestError(f"The manifest {one_line(path)} cannot be read: {reason}.")


_FILES = {
  ".parquet": parquet_records,
  ".tar": _tar_file_records,
  ".csv": _table_file_records,
  ".tsv": _table_file_records,
}


def _array_record(path: str) -> Iterator[LocatedRecord]:
  try:
    for number, data in enumerate(array_record.read_records(path)):
      try:
        record = _parsed_sample(data)
      except (ValueError, KeyError, RecursionError) as error:
        record = RecordError(f"is not a sample: {error}")
      yield LocatedRecord(number + 1, record, number, number + 1)
  except (OSError, RuntimeError) as error:
    raise ManifestError(f"The manifest {one_line(path)} cannot be read: {error}.") from error


def _parsed_sample(data: bytes) -> Any:
  """The record in a TFDS example of a data set of samples."""
  text = array_record.fields(data)["sample"].decode()
  return json_text.parse_value(text)
