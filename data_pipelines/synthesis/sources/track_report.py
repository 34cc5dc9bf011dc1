# SPDX-License-Identifier: Apache-2.0
"""What reading a source left out and changed, in bounded memory."""

import collections
from collections.abc import Iterator
import dataclasses
import os
import re
from typing import TextIO

from data_pipelines.manifest.report import BadRecord, ManifestReport

LISTED = 1000  # Bad records in memory; a source may leave out millions.
_DETAIL = re.compile(r'"(?:[^"\\]|\\.)*"|[0-9][0-9.:_]*')  # Quotes and numbers in a reason.


class BadRecordLog(list[BadRecord]):
  """The first bad records, and counts of all by reason.

  file: all are written to it, one a line; None for none.
  """

  def __init__(self, file: TextIO | None = None):
    super().__init__()
    self.total = 0
    self.reasons: collections.Counter[str] = collections.Counter()  # Without numbers and quotes.
    self._file = file

  def append(self, bad: BadRecord) -> None:
    """Adds a bad record."""
    self.total += 1
    self.reasons[_DETAIL.sub("…", bad.reason)] += 1
    if len(self) < LISTED:
      super().append(bad)
    if self._file is not None:
      self._file.write(f"{bad}\n")


@dataclasses.dataclass
class TrackReport(ManifestReport):
  """The report of reading sources: `samples` are tracks."""

  bad: list[BadRecord] = dataclasses.field(default_factory=BadRecordLog)
  # What was dropped or changed inside kept tracks: reason -> count.
  repairs: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

  def leave_out(self, path: str | os.PathLike, line: int, reason: object) -> None:
    """Reports a row that becomes no track."""
    self.bad.append(BadRecord(os.fspath(path), line, str(reason)))


def counted(tracks: Iterator, report: TrackReport) -> Iterator:
  """The tracks, counted in `report.samples`."""
  for track in tracks:
    report.samples += 1
    yield track
