# SPDX-License-Identifier: Apache-2.0
"""Records of a manifest with their lines, and which of them a mixture takes.

A manifest is .json (one array), .jsonl (a record a line) or ArrayRecord (what `builders` writes).
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
from data_pipelines.manifest.report import Bad, ManifestError, RecordError, Report
from data_pipelines.media import array_record

__all__ = ["Bad", "ManifestError", "RecordError", "Report", "records", "select"]

# How files begin that are no text, though they may hold a manifest.
COMPRESSED = {
  b"\x1f\x8b": "gzip",
  b"BZh": "bzip2",
  b"\xfd7zXZ": "xz",
  b"\x28\xb5\x2f\xfd": "zstd",
  b"PK\x03\x04": "zip",
  b"PAR1": "parquet",
}


def select(count: int, strategy: str, seed: int = 0) -> np.ndarray:
  """Ascending record numbers that a strategy takes of `count` records.

  all | first:N | end:N | random:N, where N is a number or a percentage ("first:10%", rounded up).
  The same seed always draws the same records. Raises ValueError.
  """
  found = re.fullmatch(r"all|(first|end|random):([0-9]+)|(first|end|random):([0-9.]+)%", strategy)
  try:
    share = float(found[4]) if found and found[4] else 0.0
  except ValueError:
    found = None
  if not found:
    raise ValueError(
      f"The strategy {strategy!r} is not one of all, first:N, end:N, random:N, with N a number or "
      "a percentage such as 10%. Set it in config.data.train."
    )
  if strategy == "all":
    return np.arange(count)
  taken = min(count, int(found[2]) if found[2] else math.ceil(round(share * count / 100, 9)))
  return {
    "first": lambda: np.arange(taken),
    "end": lambda: np.arange(count - taken, count),
    "random": lambda: np.sort(np.random.default_rng(seed).permutation(count)[:taken]),
  }[found[1] or found[3]]()


def records(manifest: str | os.PathLike) -> Iterator[tuple[int, Any]]:
  """(line, record) of a manifest; a RecordError in place of what is not JSON.

  The line is where the record begins; of an ArrayRecord it is the number of the record, from 1.
  Raises ManifestError.
  """
  path = os.fspath(manifest)
  if ".array_record" in os.path.basename(path):
    return _array_record(path)
  text = _text(path)
  begin = re.match(r"\s*", text).end()
  first = text[begin : begin + 1]
  if not first:
    raise ManifestError(f"The manifest {one_line(path)} is empty.")
  if first == "[":
    return json_text.array(text)
  if first == "{":
    return json_text.stream(text)
  raise ManifestError(
    f"The manifest {one_line(path)} begins with neither [ nor {{: it is no JSON array and no JSON "
    "lines."
  )


def _text(path: str) -> str:
  """The text of a file in UTF-8; bytes that are none become lone surrogates."""
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
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # Reading a folder says that it is one.
      return pathlib.Path(path).read_bytes()
    reason = "It is no regular file"
  except OSError as error:
    reason = error.strerror
  except ValueError as error:  # A NUL in the path.
    reason = str(error)
  raise ManifestError(f"The manifest {one_line(path)} cannot be read: {reason}.")


def _array_record(path: str) -> Iterator[tuple[int, Any]]:
  try:
    for number, data in enumerate(array_record.records(path), 1):
      try:
        record = json_text.value(array_record.fields(data)["sample"].decode())
      except (ValueError, KeyError, RecursionError) as error:
        record = RecordError(f"is no sample: {error}")
      yield number, record
  except (OSError, RuntimeError) as error:
    raise ManifestError(f"The manifest {one_line(path)} cannot be read: {error}.") from error
