# SPDX-License-Identifier: Apache-2.0
"""Sources by name.

The files of this folder, and private files by path.

A source is a file with SOURCE = TrackSource(...). Its reader streams: what is left out goes to the
report with file, line and reason; what is changed in kept videos is counted in `report.repairs`.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import importlib
import os
import pkgutil
import re
from typing import Protocol

from data_pipelines.manifest.report import ManifestError
from data_pipelines.synthesis import sources
from data_pipelines.synthesis.sources.divided import ReadingDivider
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Track

_PUBLISHED_TEST = re.compile(r"(?:^|[_.-])(?:val|valid|validation|test|testing)(?=[_.-]|$)")


class TrackReader(Protocol):
  """Reads the files of a source.

  Media are named relative to `media_root`; "" leaves unchecked whether they exist. Raises
  ManifestError for a file that cannot be read at all, ValueError for files that the source does not
  take.
  """

  def __call__(
    self, files: Sequence[str], media_root: str, report: TrackReport
  ) -> Iterator[Track]: ...


@dataclasses.dataclass(frozen=True)
class TrackSource:
  """A data set of annotated videos."""

  read_tracks: TrackReader
  files: str  # Which files it takes, for help texts.
  media: str  # Where its media lie below their root, for help texts.
  licence: str
  # Where several processes may parse what one reads. None: one process does all of `read_tracks`.
  divide_reading: ReadingDivider | None = None


def all_sources() -> dict[str, TrackSource]:
  """Name -> source, of every file of this folder that has one."""
  known = {}
  for module in pkgutil.iter_modules(sources.__path__):
    imported = importlib.import_module(f"{sources.__name__}.{module.name}")
    if hasattr(imported, "SOURCE"):
      known[module.name] = imported.SOURCE
  return known


def find_source(name: str) -> TrackSource:
  """The source with this name, or "module:name" of a private module.

  Raises ValueError for an unknown name.
  """
  module, _, private_name = name.partition(":")
  if not private_name:
    known = all_sources()
    if name not in known:
      raise ValueError(f"There is no source {name!r}. The sources are: {', '.join(sorted(known))}.")
    return known[name]
  try:
    source = getattr(importlib.import_module(module), private_name)
  except (ImportError, AttributeError) as error:
    raise ValueError(f"There is no source {name!r}: {error}.") from None
  if not isinstance(source, TrackSource):
    raise ValueError(f"{name!r} is not a TrackSource.")
  return source


def files_by_role(files: Sequence[str], roles: Sequence[str], help_text: str) -> dict[str, list]:
  """Role -> its files; a file's name begins with its role.

  Raises ValueError for a file without a role, and for one of a published val or test split.
  """
  by_role: dict[str, list[str]] = {role: [] for role in roles}
  for path in files:
    check_split(path)
    name = os.path.basename(path).lower()
    matching = [role for role in roles if name.startswith(role)]
    if not matching:
      raise ValueError(f"{path} is none of the files of this source. It takes {help_text}.")
    by_role[max(matching, key=len)].append(path)
  return by_role


def check_split(path: str) -> None:
  """Raises ValueError for a file whose name says val or test."""
  name = os.path.basename(path).lower()
  if _PUBLISHED_TEST.search(name):
    raise ValueError(f"{path} is of a published validation or test split. Leave it out.")


def required_files(by_role: dict[str, list], role: str, help_text: str) -> list[str]:
  """The files of a role. Raises ValueError if there are none."""
  if not by_role[role]:
    raise ValueError(f"A file named {role}… is missing. This source takes {help_text}.")
  return by_role[role]


def check_file(path: str) -> None:
  """Raises ManifestError unless a path is a readable file."""
  if not os.path.isfile(path):
    raise ManifestError(f"The file {path} is missing or no regular file.")
