# SPDX-License-Identifier: Apache-2.0
"""Finds the videos of benchmarks in their folders."""

from collections.abc import Sequence
import os

from data_pipelines.sample import Scene, Timeline
from filax.evals.kit import Source

EXTENSIONS = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov")


class VideoFolders:
  """The videos of a benchmark; every folder is listed once."""

  def __init__(self, source: Source, folders: Sequence[str]):
    """folders: below the media's folder, first the publisher's; "" is that folder itself."""
    self._root = source.root or source.data
    self._folders = folders
    self._listings: dict[str, frozenset[str]] = {}

  def timeline(self, *names: str) -> Timeline:
    """The whole video of the first of `names` that exists.

    A name may lack its extension or be a folder of pictures. Without any, the publisher's path.
    """
    return (Scene(self._path(names)),)

  def _path(self, names: Sequence[str]) -> str:
    for name in names:
      for folder in self._folders:
        path = self._existing(os.path.join(self._root, folder, name))
        if path is not None:
          return path
    name = names[0]
    if not name.endswith(EXTENSIONS):
      name += EXTENSIONS[0]
    return os.path.join(self._root, self._folders[0], name)

  def _existing(self, path: str) -> str | None:
    """The path with the extension that the file has; None if there is none."""
    folder, name = os.path.split(path)
    if folder not in self._listings:
      self._listings[folder] = _listing(folder)
    present = self._listings[folder]
    stem, extension = os.path.splitext(name)
    if extension not in EXTENSIONS:
      stem = name
    for candidate in (name, *(stem + known for known in EXTENSIONS)):
      if candidate in present:
        return os.path.join(folder, candidate)
    return None


def _listing(folder: str) -> frozenset[str]:
  try:
    return frozenset(os.listdir(folder))
  except OSError:
    return frozenset()
