# SPDX-License-Identifier: Apache-2.0
"""The lengths of media that were measured before."""

from collections.abc import Mapping
import os

from data_pipelines.manifest.excerpts import excerpt, one_line
from data_pipelines.manifest.reader import manifest_records
from data_pipelines.manifest.report import ManifestError
from data_pipelines.media.facts_store import FactsStore

_SQLITE = b"SQLite format 3"


def read_durations(path: str, root: str) -> Mapping[str, float]:
  """Seconds by medium, from a .jsonl or an index.sqlite.

  Raises ValueError for another file.
  """
  try:
    with open(path, "rb") as file:
      head = file.read(len(_SQLITE))
  except OSError as error:
    raise ValueError(f"--durations {one_line(path)} cannot be read: {error.strerror}.") from error
  if head == _SQLITE:
    return StoredDurations(path, root)
  return listed_durations(path)


def listed_durations(path: str) -> dict[str, float]:
  """Seconds by medium, from records with `media` and `duration`.

  Raises ManifestError for another record.
  """
  durations = {}
  for line, record in manifest_records(path):
    try:
      seconds = float(record["duration"])
      if not 0 <= seconds < 1e9:  # Also rejects NaN.
        raise ValueError("no number of seconds")
      durations[str(record["media"])] = seconds
    except (KeyError, TypeError, ValueError):
      raise ManifestError(
        f"{one_line(path)}:{line}: {excerpt(record)} is not like "
        '{"media": "a.mp4", "duration": 12.3}.'
      ) from None
  return durations


class StoredDurations(Mapping[str, float]):
  """Seconds by medium, from the facts that a plan keeps. Picklable."""

  def __init__(self, path: str, root: str):
    self._path = path
    self._root = root
    self._store: FactsStore | None = None

  def __getitem__(self, media: str) -> float:
    if self._store is None:
      self._store = FactsStore(self._path)
    path = os.path.abspath(os.path.join(self._root, media))
    facts = self._store.get(f"path:{path}")
    if facts is None or not facts.duration:
      raise KeyError(media)
    return facts.duration

  def __iter__(self):
    raise TypeError("The media of stored durations are not listed.")

  def __len__(self) -> int:
    raise TypeError("The media of stored durations are not counted.")

  def __getstate__(self) -> dict[str, object]:
    return dict(_path=self._path, _root=self._root, _store=None)
