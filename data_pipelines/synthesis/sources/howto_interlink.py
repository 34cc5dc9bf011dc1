# SPDX-License-Identifier: Apache-2.0
"""HowToInterlink7M: captions of the clips of HowTo100M's videos, with times in whole seconds.

The tables of sampled clips have holes: their order is right, but what follows an event may be
missing.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import json
import os
from typing import NamedTuple

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import BadRecord, ManifestError, RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.divided import (
  ROWS,
  DividedReading,
  ParsedRecords,
  RowsParser,
  in_batches_of,
  new_report,
  tracks_in_order,
)
from data_pipelines.synthesis.sources.media_folder import MediaFolder, video_key
from data_pipelines.synthesis.sources.registry import (
  TrackSource,
  files_by_role,
  required_files,
)
from data_pipelines.synthesis.sources.tables import check_unicode, table_rows
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Event, Track

VIDEO_COLUMNS = ("video", "path")  # One or the other.
CLIPS = "clips"
FILES = (
  "Howto-Interlink7M_subset_w_all_clips_train.tsv and …_w_sampled_clips_train.tsv, and optionally "
  "durations*.jsonl of media and duration"
)


class VideoRow(NamedTuple):
  """A row of a video."""

  path: str  # Of the table.
  line: int
  cells: dict[str, str] | RecordError
  stem: str  # The medium without its extension; "" of a damaged row.
  durations: dict[str, float]  # Those listed for it.


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track a video; of two rows of a video the first."""
  yield from tracks_in_order(divide_reading(files, media_root, report), report)


def divide_reading(files: Sequence[str], media_root: str, report: TrackReport) -> DividedReading:
  """Batches of rows, and what parses them."""
  by_role = files_by_role(files, ("howto", "durations"), FILES)
  paths = required_files(by_role, "howto", FILES)
  media = MediaFolder(media_root, by_role["durations"])
  batches = in_batches_of(ROWS, _rows(paths, media, report))
  return DividedReading(batches, RowsParser(functools.partial(_parsed_video, media_root)))


def _rows(paths: Sequence[str], media: MediaFolder, report: TrackReport) -> Iterator[VideoRow]:
  for path in paths:
    for line, cells in table_rows(path, (CLIPS,), report, delimiter="\t"):
      stem = "" if isinstance(cells, RecordError) else _stem(cells, path)
      yield VideoRow(path, line, cells, stem, media.listed_durations(stem))


def _stem(cells: Mapping[str, str], path: str) -> str:
  """The name of a row's medium, without extension.

  Raises ManifestError for a table that names none.
  """
  written = cells[_video_column(cells, path)].strip()
  return os.path.splitext(os.path.basename(written))[0] or written


def _video_column(cells: Mapping[str, str], path: str) -> str:
  for column in VIDEO_COLUMNS:
    if column in cells:
      return column
  raise ManifestError(f"The table {path} has neither a column video nor path.")


def _parsed_video(media_root: str, row: VideoRow) -> ParsedRecords:
  """The track of a row."""
  report = new_report()
  tracks = []
  key = ""
  try:
    if isinstance(row.cells, RecordError):
      raise row.cells
    key = video_key(row.stem)
    tracks.append(_track(row, row.cells, MediaFolder(media_root), report))
  except RecordError as error:
    report.leave_out(row.path, row.line, error)
  repetition = BadRecord(row.path, row.line, f"is a second row of the video {excerpt(key)}")
  return ParsedRecords(tracks, report.bad, report.repairs, key, repetition)


def _track(
  row: VideoRow, cells: Mapping[str, str], media: MediaFolder, report: TrackReport
) -> Track:
  """The track of a row with cells. Raises RecordError."""
  events = _events(cells[CLIPS], report)
  name = media.video(row.stem)
  duration = row.durations.get(name)
  if duration is None:
    duration = media.duration(name)
  if duration is None:
    duration = max(event.t1 for event in events)
    report.repairs["tracks: of unknown duration, ended with the last event"] += 1
  track = Track(
    key=video_key(row.stem),
    media=(Scene(name, t1=duration),),
    duration=duration,
    events=tuple(events),
    summary=_document(cells, _video_column(cells, row.path)),
    source="howto_interlink",
  )
  cleaned = clean_track(track, report.repairs)
  if not cleaned.events:
    raise RecordError("has no clip inside of its video")
  return cleaned


def _events(text: str, report: TrackReport) -> list[Event]:
  """The clips of a cell. Raises RecordError if there are none."""
  try:
    clips = json.loads(text)
  except (ValueError, RecursionError):
    raise RecordError(f"has the clips {excerpt(text)}, which are not JSON") from None
  if not isinstance(clips, list):
    raise RecordError(f"has the clips {excerpt(text)}, which are not a list")
  check_unicode(clips)
  events = []
  for clip in clips:
    try:
      events.append(_event(clip))
    except RecordError as error:
      report.repairs[f"clips: {error}, dropped"] += 1
  if not events:
    raise RecordError("has no clip with a time and a caption")
  return events


def _event(clip: object) -> Event:
  """A clip as an event. Raises RecordError."""
  if not isinstance(clip, Mapping):
    raise RecordError("no object")
  caption = clip.get("caption")
  span = clip.get("clip")
  if not isinstance(caption, str) or not caption.strip():
    raise RecordError("without a caption")
  if not isinstance(span, str):
    raise RecordError("without a time")
  start, dash, end = span.partition(" - ")
  if not dash:
    raise RecordError("without a start and an end")
  try:
    return Event(clock_seconds(start), clock_seconds(end), caption)
  except RecordError:
    raise RecordError("with a time that is not H:MM:SS") from None


def _document(cells: Mapping[str, str], video_column: str) -> str:
  """The text about the whole video, whose column has no fixed name."""
  texts = [cells[name] for name in cells if name not in (video_column, CLIPS)]
  return max(texts, key=len, default="").strip()


SOURCE = TrackSource(
  read_tracks, FILES, "<video id>.mp4 or .webm", "Apache-2.0 (annotations)", divide_reading
)
