# SPDX-License-Identifier: Apache-2.0
"""Records of a manifest with their lines, and which of them a mixture takes.

A manifest is .json (one array), .jsonl (a record a line) or ArrayRecord (what `builders` writes).
"""

from collections.abc import Iterator
import dataclasses
import json
import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from data_pipelines import array_records


class ManifestError(ValueError):
  """A manifest cannot be used at all: missing, or not in any known form."""


class RecordError(ValueError):
  """A record that breaks the format; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Bad:
  """A record that was left out. str() is "manifest.json:12: why"."""

  manifest: str
  line: int
  reason: str

  def __str__(self) -> str:
    return f"{self.manifest}:{self.line}: {self.reason}"


@dataclasses.dataclass
class Report:
  """What reading came across, over any number of manifests."""

  samples: int = 0
  prepended: int = 0  # Records with media but no <image>, which was put in front.
  surplus: int = 0  # Records with more <image> than media; what is left over is ordinary text.
  dropped_turns: int = 0  # First turns that were not the human's.
  bad: list[Bad] = dataclasses.field(default_factory=list)


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
      "a percentage such as 10%. Set it in config.data.train.")
  if strategy == "all":
    return np.arange(count)
  taken = min(count, int(found[2]) if found[2] else math.ceil(round(share * count / 100, 9)))
  return {
    "first": lambda: np.arange(taken), "end": lambda: np.arange(count - taken, count),
    "random": lambda: np.sort(np.random.default_rng(seed).permutation(count)[:taken]),
  }[found[1] or found[3]]()


def records(manifest: str | os.PathLike) -> Iterator[tuple[int, Any]]:
  """(line, record) of a manifest; a RecordError in place of what is not JSON.

  The line is where the record begins; of an ArrayRecord it is the number of the record, from 1.
  """
  path = os.fspath(manifest)
  if ".array_record" in os.path.basename(path):
    return _array_record(path)
  try:
    text = pathlib.Path(path).read_bytes().decode("utf-8-sig", errors="surrogateescape")
  except OSError as error:
    raise ManifestError(f"The manifest {path} cannot be read: {error.strerror}.") from error
  if not text.strip():
    raise ManifestError(f"The manifest {path} is empty.")
  if text.lstrip()[0] == "[":
    return _array(text)
  if text.lstrip()[0] == "{":
    return _lines(text)
  raise ManifestError(
    f"The manifest {path} begins with neither [ nor {{: it is no JSON array and no JSON lines.")


def _array_record(path: str) -> Iterator[tuple[int, Any]]:
  try:
    for number, data in enumerate(array_records.records(path), 1):
      try:
        yield number, json.loads(array_records.fields(data)["sample"])
      except (ValueError, KeyError, RecursionError) as error:
        yield number, RecordError(f"is no sample: {error}")
  except (OSError, RuntimeError) as error:
    raise ManifestError(f"The manifest {path} cannot be read: {error}.") from error


def _lines(text: str) -> Iterator[tuple[int, Any]]:
  for number, line in enumerate(text.split("\n"), 1):
    if line.strip():
      try:
        yield number, json.loads(line)
      except (ValueError, RecursionError) as error:
        yield number, RecordError(f"is no JSON: {error}")


def _array(text: str) -> Iterator[tuple[int, Any]]:
  """Elements one by one, so that each has its line and damage costs only what follows it."""
  decode, space = json.JSONDecoder().raw_decode, re.compile(r"[ \t\r\n]*")
  place = space.match(text).end() + 1
  line, counted = 1, 0
  while True:
    place = space.match(text, place).end()
    line, counted = line + text.count("\n", counted, place), place
    if text[place:place + 1] == "]":
      return
    try:
      element, place = decode(text, place)
    except (ValueError, RecursionError) as error:
      yield line, RecordError(f"is no JSON, and the rest cannot be read: {error}")
      return
    yield line, element
    place = space.match(text, place).end()
    if text[place:place + 1] not in (",", "]"):
      line += text.count("\n", counted, place)
      yield line, RecordError("is not followed by , or ], and the rest cannot be read")
      return
    place += text[place] == ","
