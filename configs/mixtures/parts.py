# SPDX-License-Identifier: Apache-2.0
"""Parts of a published mixture, and which of them lie below a folder."""

from collections.abc import Sequence
import os
from typing import NamedTuple

UNKNOWN = "unknown"  # Neither the publication nor the data card states it.
WORDS = ("", "full", "present")

Entry = tuple[str, str]  # (manifest, strategy) of config.data.train.


class DataSource(NamedTuple):
  """A data set: its media and their licence."""

  name: str
  media: str  # Where to get them.
  licence: str = UNKNOWN


class MixturePart(NamedTuple):
  """One manifest of a mixture, as published."""

  file: str
  strategy: str  # all | first:N | end:N | random:N
  samples: str  # Number of samples in the whole file: "6901", "40k", or "unknown".
  annotations: str  # Where to get the file.
  source: DataSource

  @property
  def published_count(self) -> int | None:
    """The published number of samples; None if it is unknown."""
    scale = {"k": 1000, "m": 1_000_000}.get(self.samples[-1:], 1)
    digits = self.samples.rstrip("km")
    return int(digits) * scale if digits.isdigit() else None


def parts(annotations: str, source: DataSource, *rows: Sequence[str]) -> tuple[MixturePart, ...]:
  """The parts of a source, from rows (file, strategy, samples)."""
  mixture = []
  for file, strategy, samples in rows:
    mixture.append(MixturePart(file, strategy, samples, annotations, source))
  return tuple(mixture)


def locate(part: MixturePart, root: str) -> str:
  """The path of a part below `root`; "" if it is not there.

  A part may lie under its published path, or under its file name in `root` or in any folder
  directly below it. Its media may then lie beside it.
  """
  name = os.path.basename(part.file)
  paths = [os.path.join(root, part.file), os.path.join(root, name)]
  paths += [os.path.join(folder, name) for folder in _folders(root)]
  return next((path for path in paths if os.path.isfile(path)), "")


def choose(mixture: str, root: str, published: Sequence[MixturePart], usual: Sequence[Entry]):
  """config.data.train for the arguments `mixture` and `root` of a config.

  "": the `usual` manifests. full: every published part; a run is refused while one is missing.
  present: the parts that lie below `root`. Raises ValueError if there is none.
  """
  if mixture not in WORDS:
    raise ValueError(f"The config has no mixture={mixture}. Set it to full or present.")
  if not mixture:
    return tuple(usual)
  root = os.path.expanduser(root)
  entries = []
  for part in published:
    path = locate(part, root)
    if path or mixture == "full":
      entries.append((path or os.path.join(root, part.file), part.strategy))
  if not entries:
    raise ValueError(
      f"None of the {len(published)} parts of the mixture lies below root={root}. "
      "`filax data status` says where to get them."
    )
  return tuple(entries)


def _folders(root: str) -> list[str]:
  """The folders in `root`, in order; [] without such a folder."""
  try:
    with os.scandir(root) as listing:
      return sorted(entry.path for entry in listing if entry.is_dir())
  except OSError:
    return []
