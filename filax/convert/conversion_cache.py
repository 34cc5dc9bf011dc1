# SPDX-License-Identifier: Apache-2.0
"""The user's cache of converted folders: a folder is converted once.

  $FILAX_CACHE, else $XDG_CACHE_HOME/filax, else ~/.cache/filax
    converted/<name of the source>-<key>/       a checkpoint and its conversion_report.json
    converted/<name of the source>-<key>.lock   held by the process that converts

The key is a digest of the source's files and of the version of the converter, so a changed source
gets a new entry. An entry appears complete or not at all. Entries are never removed here.
"""

from collections.abc import Callable, Iterator
import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import sys
from typing import BinaryIO

from filax import user_cache
from filax.checkpoint import run_folder
from filax.convert.report import REPORT_FILE
from filax.convert.torch_files import INDEX

KNOB = user_cache.KNOB
CONVERTER = 6  # Raise it when the same files convert to another checkpoint.

_OF_FOLDERS = (".safetensors", ".bin", ".pt", ".pth")
_WEIGHTS = (*_OF_FOLDERS, ".gguf")  # A GGUF file is a source of its own.
_DOCUMENTS = (".json", ".model", ".txt", ".jinja")  # Configs, indexes and tokenizers.
_FOLDERS = (".", "fila")  # Below the source; "fila" holds the fusion weights of an export.
_SAMPLE = 65_536  # Bytes of a file of weights that are read for its identity, at three places.


def cache_folder() -> Path:
  """The folder of all converted folders."""
  return user_cache.cache_folder("converted")


def entry_path(source: Path) -> Path:
  """The place of a converted folder, which need not exist.

  Raises OSError for an unreadable source.
  """
  name = re.sub(r"[^A-Za-z0-9._-]+", "_", source.resolve().name)[:80]
  return cache_folder() / f"{name}-{source_key(source)[:16]}"


def is_whole(entry: Path) -> bool:
  """Whether an entry has a report and a checkpoint.

  Raises OSError naming FILAX_CACHE if this user may not read it.
  """
  try:
    return (entry / REPORT_FILE).is_file() and bool(run_folder.step_folders(entry))
  except PermissionError as error:
    raise OSError(
      f"{entry} in the cache cannot be read by this user ({error.strerror}). Let its owner allow "
      f"that (chmod -R g+rX {entry.parent}), or set {KNOB} to a folder of your own."
    ) from error


def convert_once(source: Path, convert: Callable[[Path], None]) -> Path:
  """The entry of a source; `convert(entry)` writes a missing one.

  Of several processes one converts, and the others wait. Raises OSError naming FILAX_CACHE if the
  cache cannot be read or written, and the errors of `convert`.
  """
  entry = entry_path(source)
  if is_whole(entry):
    return entry
  with _lock(entry):
    if not is_whole(entry):
      shutil.rmtree(entry, ignore_errors=True)  # Somebody removed a part of it.
      convert(entry)
  return entry


@contextlib.contextmanager
def _lock(entry: Path) -> Iterator[None]:
  """Holds the lock file of an entry."""
  path = entry.with_name(f"{entry.name}.lock")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "ab")
  except OSError as error:
    raise OSError(
      f"The cache {path.parent} cannot be written ({error.strerror}). Set {KNOB} to a folder that "
      f"can."
    ) from error
  with file:
    _wait_for_lock(file, entry)
    yield


def _wait_for_lock(file: BinaryIO, entry: Path) -> None:
  """Locks a file until it is closed; a wait is printed.

  On file systems without locks, several processes convert, and the first to finish wins.
  """
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    print(f"Waiting for the process that writes {entry}.", file=sys.stderr, flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)
  except OSError:
    return


def source_key(source: Path) -> str:
  """A digest of a source and of the version of the converter.

  The place of the source counts, documents with their content, and files of weights with size, time
  of change and samples.
  """
  facts: list[object] = [CONVERTER, os.fspath(source.resolve())]
  for file in source_files(source):
    status = file.stat()
    if file.suffix in _WEIGHTS:
      identity = f"{status.st_mtime_ns} {_sample_digest(file, status.st_size)}"
    else:
      with open(file, "rb") as content:
        identity = hashlib.file_digest(content, "sha256").hexdigest()
    facts.append((os.fspath(file.relative_to(source)), status.st_size, identity))
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def source_files(source: Path) -> list[Path]:
  """The files of a source that a conversion may read, sorted.

  For a source that is a file, it is the file itself.
  """
  if source.is_file():
    return [source]
  candidates: list[Path] = []
  for name in _FOLDERS:
    folder = source / name
    if folder.is_dir():
      candidates.extend(folder.iterdir())
  relevant = [file for file in candidates if file.suffix in (*_WEIGHTS, *_DOCUMENTS)]
  return sorted(file for file in relevant if file.is_file())


def holds_weights(source: Path) -> bool:
  """Whether a folder directly holds weights, or an index of them."""
  return any(file.name.endswith((*_OF_FOLDERS, INDEX)) for file in source.iterdir())


def weight_bytes(source: Path) -> int:
  """The size of the files of weights of a source."""
  weights = [file for file in source_files(source) if file.suffix in _WEIGHTS]
  return sum(file.stat().st_size for file in weights)


def _sample_digest(file: Path, size: int) -> str:
  """A digest of the beginning, middle and end of a file."""
  digest = hashlib.sha256()
  with open(file, "rb") as content:
    for place in (0, size // 2, max(0, size - _SAMPLE)):
      content.seek(place)
      digest.update(content.read(_SAMPLE))
  return digest.hexdigest()
