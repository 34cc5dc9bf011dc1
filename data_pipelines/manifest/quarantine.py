# SPDX-License-Identifier: Apache-2.0
"""The quarantine: a JSONL file of unusable media and samples.

A line is {"media", "error", "origin"}. `media` is "" if the sample asks for a part outside its
medium: then the sample, identified by its origin, is at fault.
"""

from collections.abc import Iterable, Mapping
import contextlib
import dataclasses
import json
import os
import pathlib
import threading
from typing import BinaryIO

from data_pipelines.sample import Timeline

try:
  import fcntl
except ImportError:  # Not on Windows, where quarantine.jsonl may hold a medium twice.
  fcntl = None  # type: ignore[assignment]  # A module that may be missing has no type.

Entry = Mapping[str, str]


@dataclasses.dataclass
class _ReadPart:
  """What this process has read of a quarantine: every line once."""

  file: tuple[int, int] = (0, 0)  # Device and inode.
  size: int = 0  # Bytes; a line that is not finished is read again.
  names: set[str] = dataclasses.field(default_factory=set)


_reading = threading.Lock()
_read_parts: dict[str, _ReadPart] = {}  # By absolute path.


def add_to_quarantine(path: str | os.PathLike, media: str, error: str, origin: str) -> None:
  """Appends an entry unless its medium or sample is already listed.

  Samples are identified by their origin. Threads and processes may share the file. A failed write
  is not an error: the sample is masked and counted anyway.
  """
  path = pathlib.Path(path)
  entry = dict(media=media, error=error, origin=origin)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _reading, open(path, "a+b") as file:
      _lock(file)
      part = _read_parts.setdefault(os.path.abspath(path), _ReadPart())
      torn = _read_on(file, part)
      if _blamed(entry) in part.names or _blamed(entry) in _blamed_names([torn]):
        return
      # A writer may have been killed in the middle of its line.
      file.write(b"\n" * bool(torn) + json.dumps(entry).encode() + b"\n")
  except OSError:
    pass


def _lock(file: BinaryIO) -> None:
  """Locks a file until it is closed, where there are locks."""
  if fcntl:
    with contextlib.suppress(OSError):
      fcntl.flock(file, fcntl.LOCK_EX)


def _read_on(file: BinaryIO, part: _ReadPart) -> bytes:
  """Reads what was added to a quarantine.

  Returns the beginning of an unfinished line.
  """
  facts = os.fstat(file.fileno())
  identity = (facts.st_dev, facts.st_ino)
  if part.file != identity or facts.st_size < part.size:  # It is another file.
    part.file = identity
    part.size = 0
    part.names = set()
  file.seek(part.size)
  added = file.read()
  end = added.rfind(b"\n") + 1
  part.size += end
  part.names |= _blamed_names(added[:end].splitlines())
  return added[end:]


def read_quarantine(path: str | os.PathLike) -> frozenset[str]:
  """The names in a quarantine.jsonl: media, and origins of samples.

  Raises ValueError for an unreadable file, and for one with other lines alone.
  """
  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(
      f"{path} cannot be read ({error.strerror}). Set config.data.exclude to a quarantine.jsonl, "
      'or to "".'
    ) from error
  names = _blamed_names(content.splitlines())
  if content.strip() and not names:
    raise ValueError(
      f"{path} excludes nothing: none of its lines is like "
      '{"media": "a.mp4", "error": "", "origin": ""}. Set config.data.exclude to a '
      'quarantine.jsonl, or to "".'
    )
  return frozenset(names)


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


def _blamed_names(lines: Iterable[bytes]) -> set[str]:
  """The names in the lines of a quarantine, ignoring incomplete lines."""
  names = set()
  for line in lines:
    try:
      name = _blamed(json.loads(line))
    except (ValueError, KeyError, TypeError):
      continue
    if isinstance(name, str) and name:
      names.add(name)
  return names
