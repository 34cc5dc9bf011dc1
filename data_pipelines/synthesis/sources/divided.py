# SPDX-License-Identifier: Apache-2.0
"""Readings in two steps: one process reads raw records, any process parses them.

Raw records come in the order of the files. A record is parsed independently of the others, so
several processes may share the work. Decisions that depend on other records (such as videos that
come twice) are made afterwards, in the order of the files. Tracks, counts and reports are the same
for any number of processes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import itertools
from typing import Any, NamedTuple, Protocol, TypeVar

from data_pipelines.manifest.report import BadRecord
from data_pipelines.synthesis.sources.key_set import KeySet
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Track

ROWS = 64  # Rows of a batch: parsing them takes milliseconds, sending them a tenth of that.
Item = TypeVar("Item")


class ParsedRecords(NamedTuple):
  """What one or more raw records gave."""

  tracks: list[Any]  # Track, or what was made of it.
  bad: list[BadRecord]
  repairs: Counter[str]
  video: str = ""  # Taken once: the first with this name that gave tracks. "": always.
  repetition: BadRecord | None = None  # What is reported of a later one, in place of all else.


RecordParser = Callable[[Any], list[ParsedRecords]]  # Of a batch of raw records. Picklable.


@dataclasses.dataclass(frozen=True)
class DividedReading:
  """The reading of the files of a source in two steps."""

  batches: Iterator[Any]  # Raw records; picklable.
  parse: RecordParser


@dataclasses.dataclass(frozen=True)
class RowsParser:
  """Parses batches of rows one by one."""

  parse: Callable[[Any], ParsedRecords]  # Picklable.

  def __call__(self, batch: Sequence[Any]) -> list[ParsedRecords]:
    return list(map(self.parse, batch))


class ReadingDivider(Protocol):
  """Divides the reading of the files of a source.

  Takes and raises what a TrackReader does. Reading batches reports what concerns no single record.
  """

  def __call__(
    self, files: Sequence[str], media_root: str, report: TrackReport
  ) -> DividedReading: ...


def tracks_in_order(reading: DividedReading, report: TrackReport) -> Iterator[Track]:
  """The tracks of a divided reading, parsed in this process."""
  for records in taken_records(map(reading.parse, reading.batches), report):
    yield from records.tracks


def taken_records(
  batches: Iterable[list[ParsedRecords]], report: TrackReport
) -> Iterator[ParsedRecords]:
  """Those of parsed records that repeat no video; all are reported."""
  seen = KeySet()
  for records in itertools.chain.from_iterable(batches):
    if records.repetition and records.video in seen:
      report.bad.append(records.repetition)
      continue
    for bad in records.bad:
      report.bad.append(bad)
    report.repairs.update(records.repairs)
    report.samples += len(records.tracks)
    if records.video and records.tracks:
      seen.add(records.video)
    yield records


def in_batches_of(count: int, items: Iterable[Item]) -> Iterator[list[Item]]:
  """Lists of `count` items; the last may be shorter."""
  remaining = iter(items)
  while batch := list(itertools.islice(remaining, count)):
    yield batch


def new_report() -> TrackReport:
  """A report for a few records, which lists all bad ones."""
  return TrackReport(bad=[])
