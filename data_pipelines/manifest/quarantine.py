# SPDX-License-Identifier: Apache-2.0
"""The quarantine: a JSONL file of unusable media and samples.

A line is {"media", "error", "origin"}. `media` is "" if the sample asks for a part outside its
medium: then the sample, identified by its origin, is at fault.
"""

from collections.abc import Iterable, Mapping
import json
import os
import pathlib

from data_pipelines.sample import Timeline

try:
  import fcntl
except ImportError:  # Not on Windows, where quarantine.jsonl may hold a medium twice.
  fcntl = None  # type: ignore[assignment]  # A module that may be missing has no type.

Entry = Mapping[str, str]


def add_to_quarantine(path: str | os.PathLike, media: str, error: str, origin: str) -> None:
  """Appends an entry unless its medium or sample is already listed.

  Samples are identified by their origin. Threads and processes may share the file. A failed write
  is not an error: the sample is masked and counted anyway.
  """
  path = pathlib.Path(path)
  entry = dict(media=media, error=error, origin=origin)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
      if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX)  # Until the file is closed.
      file.seek(0)
      lines = file.readlines()
      if _blamed(entry) in _blamed_names(lines):
        return
      if lines and not lines[-1].endswith("\n"):  # A writer was killed in the middle of its line.
        file.write("\n")
      file.write(json.dumps(entry) + "\n")
  except OSError:
    pass


def read_quarantine(path: str | os.PathLike) -> frozenset[str]:
  """The names in a quarantine.jsonl: media, and origins of samples.

  Raises ValueError for an unreadable file.
  """
  try:
    with open(path) as file:
      return frozenset(_blamed_names(file))
  except OSError as error:
    raise ValueError(
      f"{path} cannot be read ({error.strerror}). Set config.data.exclude to a quarantine.jsonl, "
      'or to "".'
    ) from error


def blamed_medium(timeline: Timeline, message: str) -> str:
  """The timeline's medium at the start of an error message.

  The first medium if the message names none.
  """
  for scene in timeline:
    if message.startswith(f"{scene.media}:"):
      return scene.media
  return timeline[0].media


def _blamed(entry: Entry) -> str:
  return entry["media"] or entry["origin"]


def _blamed_names(lines: Iterable[str]) -> set[str]:
  """The names in the lines of a quarantine, ignoring incomplete lines."""
  names = set()
  for line in lines:
    try:
      names.add(_blamed(json.loads(line)))
    except (ValueError, KeyError, TypeError):
      continue
  return names
