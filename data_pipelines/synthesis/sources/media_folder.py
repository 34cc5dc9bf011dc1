# SPDX-License-Identifier: Apache-2.0
"""Finds the media of a source below a folder, and their lengths."""

from collections.abc import Sequence
import os

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.media.probe import probe
from data_pipelines.synthesis import splits
from data_pipelines.synthesis.durations import listed_durations

EXTENSIONS = (".mp4", ".webm", ".mkv", ".avi", ".mov")


class MediaFolder:
  """The folder of a source's media.

  root: "" or a URL leaves unchecked whether media exist. durations: files of records with `media`
  and `duration` (seconds); other media are probed where they are local files.
  """

  def __init__(self, root: str, durations: Sequence[str] = ()):
    self.root = root
    self.is_checked = bool(root) and "://" not in root
    self._durations: dict[str, float] = {}
    for path in durations:
      self._durations.update(listed_durations(path))

  def video(self, stem: str) -> str:
    """The name of a video without its extension, relative to the root.

    Raises RecordError if there is none.
    """
    check_name(stem)
    if not self.is_checked:
      return stem + EXTENSIONS[0]
    for extension in EXTENSIONS:
      if self.exists(stem + extension):
        return stem + extension
    raise RecordError(f"has no video {excerpt(stem)} in the folder of the media")

  def exists(self, name: str) -> bool:
    """Whether a medium is there; True if that is not checked."""
    return not self.is_checked or os.path.exists(os.path.join(self.root, name))

  def check(self, name: str) -> str:
    """The name of a medium that exists. Raises RecordError."""
    check_name(name)
    if not self.exists(name):
      raise RecordError(f"has no medium {excerpt(name)} in the folder of the media")
    return name

  def duration(self, name: str) -> float | None:
    """Seconds of a medium; None if unknown.

    Raises RecordError for an unreadable one.
    """
    listed = self._durations.get(name)
    if listed is not None or not self.is_checked:
      return listed
    facts = probe(os.path.join(self.root, name))
    if facts.error:
      raise RecordError(f"has a medium that cannot be read: {facts.error}")
    return facts.duration

  def listed_durations(self, stem: str) -> dict[str, float]:
    """Seconds by medium, of the media that a stem may name."""
    durations = {}
    for extension in EXTENSIONS:
      name = stem + extension
      if name in self._durations:
        durations[name] = self._durations[name]
    return durations


def check_name(name: str) -> None:
  """Raises RecordError for a name that leaves the root."""
  parts = name.replace("\\", "/").split("/")
  if not name or ".." in parts or parts[0] == "" or not name.isprintable() or ":" in parts[0]:
    raise RecordError(
      f"has the medium {excerpt(name)}, which is not a path inside the media's folder"
    )


def video_key(name: str) -> str:
  """`splits.source_key`, but raises RecordError."""
  try:
    return splits.source_key(name)
  except ValueError as error:
    raise RecordError(str(error)) from None
