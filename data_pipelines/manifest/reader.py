# SPDX-License-Identifier: Apache-2.0
"""Reads and selects the records of a manifest, with their lines.

A manifest is .json (one array), .jsonl (a record a line) or ArrayRecord (see `build_array_record`).
"""

from collections.abc import Iterator
import json
import math
import os
import pathlib
import re
import stat
from typing import Any

import numpy as np

from data_pipelines.manifest import json_text
from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.report import BadRecord, ManifestError, ManifestReport, RecordError
from data_pipelines.media import array_record

__all__ = [
  "BadRecord",
  "ManifestError",
  "ManifestReport",
  "RecordError",
  "manifest_records",
  "select_records",
]

_STRATEGY = re.compile(r"all|(first|end|random):([0-9]+)|(first|end|random):([0-9.]+)%")
# Signatures of compressed and binary files that may contain a manifest.
COMPRESSED = {
  b"\x1f\x8b": "gzip",
  b"BZh": "bzip2",
  b"\xfd7zXZ": "xz",
  b"\x28\xb5\x2f\xfd": "zstd",
  b"PK\x03\x04": "zip",
  b"PAR1": "parquet",
}


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
  path = os.fspath(manifest)
  if ".array_record" in os.path.basename(path):
    return _array_record(path)
  text = _text(path)
  beginning = re.search(r"\S", text)
  if beginning is None:
    raise ManifestError(f"The manifest {one_line(path)} is empty.")
  if beginning[0] == "[":
    return json_text.array_records(text)
  if beginning[0] == "{":
    return json_text.line_records(text)
  raise ManifestError(
    f"The manifest {one_line(path)} begins with neither [ nor {{: it is no JSON array and no JSON "
    "lines."
  )


def _text(path: str) -> str:
  """The text of a UTF-8 file.

  Invalid bytes become lone surrogates.
  """
  data = _content(path)
  for magic, name in COMPRESSED.items():
    if data.startswith(magic):
      raise ManifestError(
        f"The manifest {one_line(path)} is a {name} file. Unpack it to .json or .jsonl."
      )
  encoding = json.detect_encoding(data)
  if encoding not in ("utf-8", "utf-8-sig"):
    raise ManifestError(
      f"The manifest {one_line(path)} is text in {encoding.upper()}. Save it as UTF-8."
    )
  return data.decode("utf-8-sig", errors="surrogateescape")


def _content(path: str) -> bytes:
  try:
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # Reading a folder raises a clear error.
      return pathlib.Path(path).read_bytes()
    reason: str | None = "It is no regular file"
  except OSError as error:
    reason = error.strerror
  except ValueError as error:  # A NUL in the path.
    reason = str(error)
  raise ManifestError(f"The manifest {one_line(path)} cannot be read: {reason}.")


def _array_record(path: str) -> Iterator[tuple[int, Any]]:
  try:
    for number, data in enumerate(array_record.read_records(path), 1):
      try:
        text = array_record.fields(data)["sample"].decode()
        record = json_text.parse_value(text)
      except (ValueError, KeyError, RecursionError) as error:
        record = RecordError(f"is no sample: {error}")
      yield number, record
  except (OSError, RuntimeError) as error:
    raise ManifestError(f"The manifest {one_line(path)} cannot be read: {error}.") from error
