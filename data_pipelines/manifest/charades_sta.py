# SPDX-License-Identifier: Apache-2.0
"""Reads lines of Charades-STA: a video, its seconds and a sentence.

AO8RW 0.0 6.9##a person is putting a book on a shelf.
"""

from collections.abc import Iterator
import re
from typing import Any, BinaryIO

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.json_text import LocatedRecord
from data_pipelines.manifest.report import RecordError

_LONGEST = 1 << 20  # Bytes of a line.
_LINE = re.compile(r"\s*(\S+) +(\d+(?:\.\d+)?) +(\d+(?:\.\d+)?) *##(.*)", re.DOTALL)


def is_sta_text(text: str) -> bool:
  """Whether the first line of a text is one of Charades-STA."""
  lines = text.lstrip().splitlines()
  return bool(lines) and _LINE.fullmatch(lines[0]) is not None


def sta_records(file: BinaryIO) -> Iterator[LocatedRecord]:
  """The records of a file, from its place on."""
  line = 0
  while data := file.readline(_LONGEST):
    line += 1
    if data.strip():
      stop = file.tell()
      yield LocatedRecord(line, _record(data), stop - len(data), stop)


def sta_record(data: bytes) -> Any:
  """The record of a line. Raises RecordError."""
  record = _record(data)
  if isinstance(record, RecordError):
    raise record
  return record


def _record(data: bytes) -> Any:
  text = data.decode("utf-8", errors="surrogateescape").strip()
  match = _LINE.fullmatch(text)
  if match is None:
    return RecordError(f"is {excerpt(text)}, not a video, its start and end, ## and a sentence")
  return {
    "vid": match[1],
    "sentence": match[4].strip(),
    "timestamp": [float(match[2]), float(match[3])],
  }
