# SPDX-License-Identifier: Apache-2.0
"""Finds the media of a benchmark in the folders that publishers and harnesses use."""

from collections.abc import Iterable, Sequence
import os

from data_pipelines.media import remote

# In the order that the harnesses try; the last three are those of other downloads.
VIDEO_EXTENSIONS = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov")


class MediaLookup:
  """Looks for files below a folder; lists every folder once."""

  def __init__(self, root: str):
    self.root = root
    self._names: dict[str, frozenset[str]] = {}  # Folder -> names in it.

  def find(self, candidates: Iterable[str]) -> str | None:
    """The path of the first candidate that exists, or None."""
    for candidate in candidates:
      path = os.path.join(self.root, candidate)
      if self._exists(path):
        return path
    return None

  def path(self, candidates: Sequence[str]) -> str:
    """The path of the first candidate that exists, else of the first."""
    return self.find(candidates) or os.path.join(self.root, candidates[0])

  def _exists(self, path: str) -> bool:
    folder, name = os.path.split(path)
    if folder not in self._names:
      self._names[folder] = _names_in(folder)
    return name in self._names[folder]


def with_extensions(name: str, folders: Sequence[str]) -> list[str]:
  """Candidates for a video without extension, the first folder first."""
  candidates = []
  for folder in folders:
    for extension in VIDEO_EXTENSIONS:
      candidates.append(os.path.join(folder, name + extension))
  return candidates


def _names_in(folder: str) -> frozenset[str]:
  """The names in a folder; none if there is no such folder."""
  try:
    return frozenset(remote.file_names(folder))
  except OSError:
    return frozenset()
