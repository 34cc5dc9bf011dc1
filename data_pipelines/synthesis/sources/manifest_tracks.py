# SPDX-License-Identifier: Apache-2.0
"""Tracks of the records of a manifest, as several sources read them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from data_pipelines.manifest.reader import manifest_records
from data_pipelines.manifest.report import RecordError
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Track


def manifest_tracks(
  path: str,
  read_track: Callable[[Mapping[str, Any]], Track],
  check_new: Callable[[Track], None],
  report: TrackReport,
) -> Iterator[Track]:
  """A track for each good record; others are reported.

  read_track, check_new: they raise RecordError for a bad record, and for one that was read before.
  """
  for line, record in manifest_records(path):
    try:
      if isinstance(record, RecordError):
        raise record
      if not isinstance(record, Mapping):
        raise RecordError("is not an object")
      track = read_track(record)
      check_new(track)
    except RecordError as error:
      report.leave_out(path, line, error)
      continue
    yield track
