# SPDX-License-Identifier: Apache-2.0
"""Looks up files that have not changed since they were probed, many at a time."""

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import sqlite3
import stat

from data_pipelines.media import packed, remote
from data_pipelines.media.facts_store import row_digest
from data_pipelines.media.open import MediaError, file_path, identity
from data_pipelines.media.probe import Probe

_KEYS = 500  # The keys of a query; old versions of SQLite take at most 999.
PATH = "path:"  # Prefix of keys for the last facts of a path; other keys are identities.


@dataclasses.dataclass(frozen=True)
class KnownFacts:
  """media -> their facts; None for what needs more than a look-up.

  These are folders, media inside other files or in buckets, files that cannot be read, and files
  that are unknown, or whose last facts under the same path differ. Picklable: several processes
  read the same SQLite file `path`. variant: see data_pipelines.media.open.cache_variant.
  """

  path: str
  variant: str

  def __call__(self, media: Sequence[str]) -> list[Probe | None]:
    keys = []
    for name in media:
      key = _identity(name)
      if key:
        keys += [key + self.variant, PATH + os.path.abspath(name)]
      else:
        keys += ["", ""]
    rows = self._rows([key for key in keys if key])
    facts = []
    for current, last in zip(keys[::2], keys[1::2], strict=True):
      facts.append(_same_facts(rows.get(current), rows.get(last)))
    return facts

  def _rows(self, keys: Sequence[str]) -> dict[str, str]:
    """The facts of known keys, as JSON.

    A damaged file gives none.
    """
    rows: dict[str, str] = {}
    try:
      location = pathlib.Path(self.path).absolute().as_uri()
      connection = sqlite3.connect(f"{location}?mode=ro", uri=True)
    except sqlite3.Error:
      return rows
    try:
      for first in range(0, len(keys), _KEYS):
        part = keys[first : first + _KEYS]
        places = ",".join("?" * len(part))
        query = f"SELECT key, row, digest FROM facts WHERE key IN ({places})"
        for key, row, digest in connection.execute(query, part):
          if isinstance(row, str) and digest == row_digest(key, row):
            rows[key] = row
    except (sqlite3.Error, UnicodeDecodeError):  # Damage is reported where it is replaced.
      return {}
    finally:
      connection.close()
    return rows


def _identity(media: str) -> str:
  """The identity of a readable regular file; "" for other media."""
  if remote.is_remote(media) or packed.is_inside(media):
    return ""
  try:
    facts = os.stat(file_path(media))
    if not stat.S_ISREG(facts.st_mode) or not facts.st_size or not os.access(media, os.R_OK):
      return ""
    return identity(media)
  except (MediaError, OSError, ValueError):
    return ""


def _same_facts(current: str | None, last: str | None) -> Probe | None:
  """The facts of a file, if its path has the same."""
  if current is None or current != last:
    return None
  return Probe(*json.loads(current))
