# SPDX-License-Identifier: Apache-2.0
"""HowToInterlink7M: captions of the clips of HowTo100M's videos, with times in whole seconds.

The tables of sampled clips have holes: their order is right, but what follows an event may be
missing.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import os

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.key_set import KeySet
from data_pipelines.synthesis.sources.media_folder import MediaFolder, video_key
from data_pipelines.synthesis.sources.registry import (
  TrackSource,
  files_by_role,
  required_files,
)
from data_pipelines.synthesis.sources.tables import clock_seconds, table_rows
from data_pipelines.synthesis.sources.track_report import TrackReport, counted
from data_pipelines.synthesis.track import Event, Track

VIDEO_COLUMNS = ("video", "path")  # One or the other.
CLIPS = "clips"
FILES = (
  "Howto-Interlink7M_subset_w_all_clips_train.tsv and …_w_sampled_clips_train.tsv, and optionally "
  "durations*.jsonl of media and duration"
)


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track a video; of two rows of a video the first."""
  by_role = files_by_role(files, ("howto", "durations"), FILES)
  paths = required_files(by_role, "howto", FILES)
  media = MediaFolder(media_root, by_role["durations"])
  yield from counted(_tracks(paths, media, report), report)


def _tracks(paths: Sequence[str], media: MediaFolder, report: TrackReport) -> Iterator[Track]:
  seen = KeySet()
  for path in paths:
    for line, cells in table_rows(path, (CLIPS,), report, delimiter="\t"):
      try:
        track = _track(cells, path, media, seen, report)
      except RecordError as error:
        report.leave_out(path, line, error)
        continue
      yield track


def _track(
  cells: Mapping[str, str] | RecordError,
  path: str,
  media: MediaFolder,
  seen: KeySet,
  report: TrackReport,
) -> Track:
  """The track of a row. Raises RecordError."""
  if isinstance(cells, RecordError):
    raise cells
  column = next((name for name in VIDEO_COLUMNS if name in cells), None)
  if column is None:
    raise ManifestError(f"The table {path} has neither a column video nor path.")
  written = cells[column].strip()
  stem = os.path.splitext(os.path.basename(written))[0] or written
  key = video_key(stem)
  if key in seen:
    raise RecordError(f"is a second row of the video {excerpt(key)}")
  events = _events(cells[CLIPS], report)
  name = media.video(stem)
  duration = media.duration(name)
  if duration is None:
    duration = max(event.t1 for event in events)
    report.repairs["tracks: of unknown duration, ended with the last event"] += 1
  track = Track(
    key=key,
    media=(Scene(name, t1=duration),),
    duration=duration,
    events=tuple(events),
    summary=_document(cells, column),
    source="howto_interlink",
  )
  cleaned = clean_track(track, report.repairs)
  if not cleaned.events:
    raise RecordError("has no clip inside of its video")
  seen.add(key)
  return cleaned


def _events(text: str, report: TrackReport) -> list[Event]:
  """The clips of a cell. Raises RecordError if there are none."""
  try:
    clips = json.loads(text)
  except (ValueError, RecursionError):
    raise RecordError(f"has the clips {excerpt(text)}, which are no JSON") from None
  if not isinstance(clips, list):
    raise RecordError(f"has the clips {excerpt(text)}, which are no list")
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


SOURCE = TrackSource(read_tracks, FILES, "<video id>.mp4 or .webm", "Apache-2.0 (annotations)")
