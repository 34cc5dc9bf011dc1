# SPDX-License-Identifier: Apache-2.0
"""Captions of LLaVA-Video-178K.

A record is a clip, with its caption as the only event.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.key_set import KeySet
from data_pipelines.synthesis.sources.manifest_tracks import manifest_tracks
from data_pipelines.synthesis.sources.media_folder import MediaFolder, check_name, video_key
from data_pipelines.synthesis.sources.registry import TrackSource, check_file
from data_pipelines.synthesis.sources.tables import check_unicode
from data_pipelines.synthesis.sources.track_report import TrackReport, counted
from data_pipelines.synthesis.track import Event, Track

FEWEST_WORDS = 5
DURATIONS = "durations"  # How the name of a file of lengths begins.
FILES = (
  "*_cap_processed*.json or *_with_duration.jsonl, and optionally durations*.jsonl of media and "
  "duration"
)


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track a clip."""
  captions: list[str] = []
  durations: list[str] = []
  for path in files:
    check_file(path)
    is_list = path.rpartition("/")[2].startswith(DURATIONS)
    (durations if is_list else captions).append(path)
  media = MediaFolder(media_root, durations)
  seen = KeySet()
  for path in captions:
    yield from counted(_tracks(path, media, seen, report), report)


def _tracks(path: str, media: MediaFolder, seen: KeySet, report: TrackReport) -> Iterator[Track]:
  def check_new(track: Track) -> None:
    if not seen.add(f"{track.media} {track.summary}"):
      raise RecordError("is a second record of this clip and caption")

  read_track = functools.partial(_track, media=media, report=report)
  return manifest_tracks(path, read_track, check_new, report)


def _track(record: Mapping[str, Any], media: MediaFolder, report: TrackReport) -> Track:
  """The track of a record. Raises RecordError."""
  check_unicode(record)
  caption = _caption(record)
  name = _medium(record, media)
  duration: Any = record.get("duration")
  if duration is None:
    duration = media.duration(name)
  if duration is None:
    raise RecordError("has no duration; list it, or give the folder of the media")
  is_number = isinstance(duration, int | float) and not isinstance(duration, bool)
  if not is_number or not 0 < duration < 1e9:
    raise RecordError(f"has the duration {excerpt(duration)}, which is not a number of seconds")
  track = Track(
    key=video_key(name),
    media=(Scene(name, t1=float(duration)),),
    duration=float(duration),
    events=(Event(0.0, float(duration), caption),),
    summary=caption,
    source="llava_captions",
  )
  return clean_track(track, report.repairs)


def _caption(record: Mapping[str, Any]) -> str:
  """The answer of a record of one question. Raises RecordError."""
  turns = record.get("conversations")
  if not isinstance(turns, list) or len(turns) != 2 or not isinstance(turns[1], Mapping):
    raise RecordError("has no conversation of one question and one caption")
  caption = turns[1].get("value")
  if not isinstance(caption, str) or len(caption.split()) < FEWEST_WORDS:
    raise RecordError(f"has a caption of less than {FEWEST_WORDS} words")
  return " ".join(caption.split())


def _medium(record: Mapping[str, Any], media: MediaFolder) -> str:
  """<data_source>/<video>, or <video> where that lies there. Raises RecordError."""
  video = record.get("video")
  if not isinstance(video, str):
    raise RecordError("has no video")
  check_name(video)
  folder = record.get("data_source")
  if isinstance(folder, str) and folder:
    name = f"{folder}/{video}"
    check_name(name)
    if media.exists(name):
      return name
  elif not media.is_checked:
    return video
  return media.check(video)


SOURCE = TrackSource(
  read_tracks,
  FILES,
  "<data_source>/<video>, or <video> as the records name it",
  "research only, with the terms of GPT-4o's outputs; videos under their own terms",
)
