# SPDX-License-Identifier: Apache-2.0
"""The facts of a plan's media, as a table that is kept while no file changes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
import os
import pathlib
import stat
import time

import numpy as np

from data_pipelines.mapped import (
  in_temporary_folder,
  keep_arrays,
  map_array,
  one_builder,
  read_facts,
  write_arrays,
)
from data_pipelines.media import remote
from data_pipelines.media.index import UNREADABLE, MediaIndex
from data_pipelines.media.open import cache_variant
from data_pipelines.media.packed import dated_file
from data_pipelines.media.probe import Probe
from data_pipelines.media.probe_table import ProbeTable, table_arrays
from data_pipelines.unused_files import mark_used
from filax import files

_VERSION = 1  # Version of the table; tables of another version are built again.
_UNKNOWN = -1  # The state of a medium that is not a file: it is looked at in every start.
_NO_FILE = (_UNKNOWN, _UNKNOWN)
_CHUNK = 1000  # Files that a thread looks at.
_SLOW_SECONDS = 1e-4  # Of a file, from which on threads are worth it: a network file system.
_LOOKERS = 32  # Threads that look at such files.


def probe_media(media: Sequence[str], index: MediaIndex, folder: str) -> ProbeTable:
  """The facts of `media` in their order.

  Media that have not changed since the table in `folder` was written ("" = none) are not opened;
  the others are looked up in `index`. A table never changes once it is written, because workers of
  running processes map it; another state of the media gives another table.
  """
  if not folder:
    return _temporary_table(media, index)
  label = _label(media, index)
  pointer = pathlib.Path(folder, f"media-{label[:32]}.json")
  states = _states(media)  # Before the lock: on a network file system this takes minutes.
  with one_builder(folder, "looks at the media"):
    latest = _latest_table(pointer, label)
    mark_used(pointer)
    if latest is not None and not _changed(media, index, latest, states).any():
      return latest
    table = _updated_table(media, index, pointer, label, latest, states)
  return table or _temporary_table(media, index)


def _label(media: Sequence[str], index: MediaIndex) -> str:
  """Identifies the list of media and how they are read."""
  digest = hashlib.sha256(f"{_VERSION} {cache_variant(index.limits)}".encode())
  for name in media:
    for text in (name, remote.absolute(name)):
      digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
  return digest.hexdigest()


def _states(media: Sequence[str]) -> np.ndarray:
  """Size and time of change of every file: i64 [media 2].

  _UNKNOWN for a medium that is not a file.
  """
  dated = [dated_file(name) for name in media]
  objects = remote.states(file for file in dated if file is not None)

  def look(first: int) -> np.ndarray:
    states = []
    for file in dated[first : first + _CHUNK]:
      if file is None:
        states.append(_NO_FILE)
      else:
        states.append(objects.get(file) or _file_state(file))
    return np.array(states, np.int64).reshape(-1, 2)

  began = time.monotonic()
  parts = [look(0)]
  is_slow = time.monotonic() - began > _SLOW_SECONDS * len(parts[0])
  with ThreadPoolExecutor(_LOOKERS if is_slow else 1) as threads:
    parts += threads.map(look, range(_CHUNK, len(dated), _CHUNK))
  return np.concatenate(parts)


def _file_state(file: str) -> tuple[int, int]:
  """Size and time of change of a file that can be read."""
  try:
    facts = os.stat(file)
  except (OSError, ValueError):
    return _NO_FILE
  if not stat.S_ISREG(facts.st_mode) or not os.access(file, os.R_OK):
    return _NO_FILE
  return facts.st_size, facts.st_mtime_ns


def _latest_table(pointer: pathlib.Path, label: str) -> ProbeTable | None:
  """The last table of these media; None if there is none."""
  name = files.read_cache(pointer, json.loads, label)
  if not isinstance(name, str) or os.path.basename(name) != name:
    return None
  folder = pointer.with_name(name)
  return None if read_facts(folder, name) is None else ProbeTable(folder)


def _changed(
  media: Sequence[str], index: MediaIndex, table: ProbeTable, states: np.ndarray
) -> np.ndarray:
  """bool [media]: what must be looked at again."""
  before = map_array(table.folder, "states")
  changed = (states != before).any(1) | (states == _UNKNOWN).any(1) | table.unreadable
  if index.planned:
    planned = [index.planned.get(name) == UNREADABLE for name in media]
    changed |= np.array(planned, bool)
  return changed


def _updated_table(
  media: Sequence[str],
  index: MediaIndex,
  pointer: pathlib.Path,
  label: str,
  latest: ProbeTable | None,
  states: np.ndarray,
) -> ProbeTable | None:
  """A table with the present facts; None if it cannot be kept."""
  changed = np.ones(len(media), bool)
  if latest is not None:
    changed = _changed(media, index, latest, states)
  fresh = dict(index.each([media[number] for number in np.flatnonzero(changed).tolist()]))
  probes: list[Probe] = []
  for number, name in enumerate(media):
    if changed[number] or latest is None:
      probes.append(fresh[name])
    else:
      probes.append(latest.probe(number))
  folder, arrays = _named_arrays(pointer.parent, media, probes, states)
  if not keep_arrays(folder, arrays, {}, folder.name):
    return None
  files.write_cache(pointer, json.dumps(folder.name).encode(), label)
  return ProbeTable(folder)


def _temporary_table(media: Sequence[str], index: MediaIndex) -> ProbeTable:
  """A table that is removed after its last use."""

  def build(parent: pathlib.Path) -> ProbeTable:
    probes = [probe for _, probe in index.each(media)]
    folder, arrays = _named_arrays(parent, media, probes, _states([]))
    write_arrays(folder, arrays, {}, folder.name)
    return ProbeTable(folder)

  return in_temporary_folder("filax-media-", build)


def _named_arrays(
  parent: pathlib.Path, media: Sequence[str], probes: Sequence[Probe], states: np.ndarray
) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
  """The folder of a table, named by its arrays, and the arrays."""
  arrays = table_arrays(media, probes)
  arrays["states"] = states
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(f"{name} {arrays[name].shape}".encode())
    digest.update(np.ascontiguousarray(arrays[name]).data)
  return parent / f"media-{digest.hexdigest()[:32]}", arrays
