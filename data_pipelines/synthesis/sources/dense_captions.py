# SPDX-License-Identifier: Apache-2.0
"""Sentences with times: ActivityNet Captions, YouCook2, FineVideo, and records of this form.

A record is a video; its sentences, or the scenes of FineVideo, are the events.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import os
from typing import Any

from data_pipelines.manifest.captioned import Caption, published_shape
from data_pipelines.manifest.grounding import dense_captions, is_dense
from data_pipelines.manifest.llava_media import optional_seconds
from data_pipelines.manifest.named_videos import EXTENSION
from data_pipelines.manifest.published import finevideo
from data_pipelines.manifest.report import RecordError
from data_pipelines.media.parquet_cells import split_cell
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.key_set import KeySet
from data_pipelines.synthesis.sources.manifest_tracks import manifest_tracks
from data_pipelines.synthesis.sources.media_folder import MediaFolder, video_key
from data_pipelines.synthesis.sources.registry import TrackSource, check_file, check_split
from data_pipelines.synthesis.sources.tables import check_unicode
from data_pipelines.synthesis.sources.track_report import TrackReport, counted
from data_pipelines.synthesis.track import Event, Track

DURATIONS = "durations"  # How the name of a file of lengths begins.
FILES = (
  "train.json of ActivityNet Captions, youcookii_annotations_trainval.json, *.parquet of "
  "FineVideo, or records of sentences and timestamps, and optionally durations*.jsonl of media and "
  "duration"
)


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track a video; of two records of a video the first."""
  lengths = [path for path in files if os.path.basename(path).startswith(DURATIONS)]
  media = MediaFolder(media_root, lengths)
  seen = KeySet()
  for path in files:
    if path in lengths:
      continue
    check_file(path)
    check_split(path)
    yield from counted(_tracks(path, media, seen, report), report)


def _tracks(path: str, media: MediaFolder, seen: KeySet, report: TrackReport) -> Iterator[Track]:
  def check_new(track: Track) -> None:
    if not seen.add(track.key):
      raise RecordError(f"is a second record of the video {track.key}")

  read_track = functools.partial(_track, media=media, report=report)
  return manifest_tracks(path, read_track, check_new, report)


def _track(record: Mapping[str, Any], media: MediaFolder, report: TrackReport) -> Track:
  """The track of a record. Raises RecordError."""
  captions = _captions(record, report)
  events = []
  for caption in captions:
    start = optional_seconds(caption["start"], "start")
    end = optional_seconds(caption["end"], "end")
    if start is None or end is None or not isinstance(caption["caption"], str):
      raise RecordError("has a sentence without a text, a start or an end")
    events.append(Event(start, end, caption["caption"]))
  name = _medium(captions[0]["video"], media)
  duration = optional_seconds(record.get("duration"), "duration")
  if duration is None:
    duration = media.duration(name)
  if duration is None:
    duration = max(event.t1 for event in events)
    report.repairs["tracks: of unknown duration, ended with the last event"] += 1
  if duration <= 0:
    raise RecordError(f"has the duration {duration:g}, which is not a length")
  track = Track(
    key=video_key(name),
    media=(Scene(name, t1=duration),),
    duration=duration,
    events=tuple(events),
    source="dense_captions",
  )
  cleaned = clean_track(track, report.repairs)
  if not cleaned.events:
    raise RecordError("has no sentence inside of its video")
  return cleaned


def _captions(record: Mapping[str, Any], report: TrackReport) -> list[Caption]:
  """The sentences of a record that are understood. Raises RecordError without any."""
  check_unicode(record)
  shape = published_shape(record)
  if is_dense(record):
    listed = dense_captions(record)
  elif shape is not None and shape.name == finevideo.SHAPE.name:
    listed = shape.read_captions(record)
  else:
    raise RecordError("has neither sentences with their times nor scenes of FineVideo")
  captions = []
  for caption in listed:
    if isinstance(caption, RecordError):
      report.repairs[f"sentences: {caption}, dropped"] += 1
    else:
      captions.append(caption)
  if not captions:
    raise RecordError("has no sentence with a time")
  return captions


def _medium(video: Any, media: MediaFolder) -> str:
  """The name of a video below the folder of media. Raises RecordError."""
  if not isinstance(video, str):
    raise RecordError("names no video")
  cell = split_cell(video)
  if cell is not None:
    name = os.path.relpath(video, os.path.abspath(media.root)) if media.root else video
    media.check(os.path.relpath(cell[0], os.path.abspath(media.root or ".")))
    return name
  if video.endswith(EXTENSION):  # The name of a video may stand for a .webm or .mkv here.
    return media.video(video.removesuffix(EXTENSION))
  return media.check(video)


SOURCE = TrackSource(
  read_tracks,
  FILES,
  "<video>.mp4, .webm or .mkv, or the Parquet files themselves",
  "that of the data set; videos under their own terms",
)
