# SPDX-License-Identifier: Apache-2.0
"""What reading a manifest came across: bad records by line, and what was put right."""

import dataclasses

from data_pipelines.manifest.excerpts import one_line


class ManifestError(ValueError):
  """A manifest cannot be used at all: missing, or not in any known form."""


class RecordError(ValueError):
  """A record that breaks the format; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Bad:
  """A record that was left out. str() is "manifest.json:12: why", on one line."""

  manifest: str
  line: int
  reason: str

  def __str__(self) -> str:
    return f"{one_line(self.manifest)}:{self.line}: {one_line(self.reason)}"


@dataclasses.dataclass
class Report:
  """What reading came across, over any number of manifests."""

  samples: int = 0
  prepended: int = 0  # Records with media but no placeholder; one was put in front for each.
  surplus: int = 0  # Records with more placeholders than media; what is left over is ordinary text.
  dropped_turns: int = 0  # First turns that were not the human's.
  bad: list[Bad] = dataclasses.field(default_factory=list)
