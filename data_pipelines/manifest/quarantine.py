# SPDX-License-Identifier: Apache-2.0
"""The quarantine: a JSONL file of media and samples that could not be used in training.

A line is {"media", "error", "origin"}. `media` is "" where the sample asks for a part that its
medium does not have: then the sample, by its origin, is to blame.
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
  """Appends an entry unless its medium, or its origin without one, is listed already.

  Threads and processes may share the file. A file that cannot be written is no error: the sample is
  masked and counted all the same.
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
      if lines and not lines[-1].endswith("\n"):  # A writer was killed within its line.
        file.write("\n")
      file.write(json.dumps(entry) + "\n")
  except OSError:
    pass


def read_quarantine(path: str | os.PathLike) -> frozenset[str]:
  """The names in a quarantine.jsonl: media, and origins of samples whose media are sound.

  Raises ValueError for a file that cannot be read.
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
  """The medium of a timeline that an error message begins with; the first if none."""
  for scene in timeline:
    if message.startswith(f"{scene.media}:"):
      return scene.media
  return timeline[0].media


def _blamed(entry: Entry) -> str:
  return entry["media"] or entry["origin"]


def _blamed_names(lines: Iterable[str]) -> set[str]:
  """The names in the lines of a quarantine; half-written lines are passed over."""
  names = set()
  for line in lines:
    try:
      names.add(_blamed(json.loads(line)))
    except (ValueError, KeyError, TypeError):
      continue
  return names
