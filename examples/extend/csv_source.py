# SPDX-License-Identifier: Apache-2.0
"""A source of annotated long videos: one row per event.

The columns are video, seconds, start, stop and text."""

from collections.abc import Iterator, Sequence
import csv
import itertools

from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.media_folder import MediaFolder
from data_pipelines.synthesis.sources.registry import TrackSource
from data_pipelines.synthesis.sources.track_report import TrackReport, counted
from data_pipelines.synthesis.track import Event, Track


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """The videos of the files.

  What cannot be used goes to the report.
  """
  media = MediaFolder(media_root)
  for path in files:
    yield from counted(tracks_of(path, media, report), report)


def tracks_of(path: str, media: MediaFolder, report: TrackReport) -> Iterator[Track]:
  """The tracks of one file, whose rows are sorted by video."""
  with open(path, newline="") as file:
    rows = csv.DictReader(file)
    for video, group in itertools.groupby(rows, key=lambda row: row["video"]):
      try:
        yield clean_track(track_of(video, list(group), media), report.repairs)
      except (RecordError, ValueError) as error:
        report.leave_out(path, rows.line_num, error)


def track_of(video: str, rows: Sequence[dict[str, str]], media: MediaFolder) -> Track:
  """A video with its events."""
  events = []
  for row in rows:
    events.append(Event(float(row["start"]), float(row["stop"]), row["text"]))
  scene = Scene(media.check(video))
  seconds = float(rows[0]["seconds"])
  return Track(key=video, media=(scene,), duration=seconds, events=tuple(events), source="csv")


SOURCE = TrackSource(read_tracks, "*.csv", "as the column video names them", "yours")
