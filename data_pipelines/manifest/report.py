# SPDX-License-Identifier: Apache-2.0
"""The report of reading manifests: bad records and counts of repairs."""

import dataclasses

from data_pipelines.manifest.excerpts import one_line


class ManifestError(ValueError):
  """A manifest is missing, unreadable or of an unknown form."""


class RecordError(ValueError):
  """A record violates the format; the message gives the reason."""


@dataclasses.dataclass(frozen=True)
class BadRecord:
  """A record that was left out.

  str() is "manifest.json:12: reason", on one line.
  """

  manifest: str
  line: int
  reason: str
  nth: int = 1  # Among the records that begin on that line.

  @classmethod
  def at(cls, origin: str, reason: str) -> "BadRecord":
    """The bad record at an origin: a manifest and a `place_text`."""
    manifest, _, place = origin.rpartition(":")
    line, _, nth = place.partition("#")
    return cls(manifest, int(line), reason, int(nth or 1))

  @property
  def full_place(self) -> str:
    """The manifest and the place of the record."""
    return f"{self.manifest}:{place_text(self.line, self.nth)}"

  def __str__(self) -> str:
    place = place_text(self.line, self.nth)
    return f"{one_line(self.manifest)}:{place}: {one_line(self.reason)}"


def place_text(line: int, nth: int) -> str:
  """The place of a record as text.

  "12" for the first record of line 12, "12#3" for its third.
  """
  return f"{line}#{nth}" if nth > 1 else str(line)


@dataclasses.dataclass
class ManifestReport:
  """Counts and bad records of reading any number of manifests."""

  samples: int = 0
  prepended: int = 0  # Records with media but no placeholder; one per medium was prepended.
  surplus: int = 0  # Records with more placeholders than media; the surplus is ordinary text.
  dropped_turns: int = 0  # First turns by another speaker than the human.
  unread: dict[str, int] = dataclasses.field(default_factory=dict)  # Key -> records that have it.
  bad: list[BadRecord] = dataclasses.field(default_factory=list)

  def unread_sentences(self) -> list[str]:
    """What to do about keys that are not read."""
    return [
      f"{count} records have the key {key} beside their question, which is not read. Put its text "
      "into the question if the answer needs it."
      for key, count in self.unread.items()
    ]
