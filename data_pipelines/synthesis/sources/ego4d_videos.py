# SPDX-License-Identifier: Apache-2.0
"""ego4d.json: lengths, redactions and simultaneous cameras of Ego4D's videos."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.synthesis import splits
from data_pipelines.synthesis.sources.clean import Stretch
from data_pipelines.synthesis.sources.json_members import json_members
from data_pipelines.synthesis.sources.tables import check_unicode
from data_pipelines.synthesis.sources.track_report import TrackReport

_SETS = ("concurrent_sets", "concurrent_video_sets")


@dataclasses.dataclass(frozen=True)
class Ego4dVideo:
  """Facts of a video."""

  duration: float  # Seconds; the least of the lengths that are stated.
  redacted: tuple[Stretch, ...]
  is_stereo: bool
  simultaneous: tuple[str, ...]  # Names of its sets of cameras, or of their other videos.


def ego4d_videos(paths: Sequence[str], report: TrackReport) -> dict[str, Ego4dVideo]:
  """Id -> facts, of files like ego4d.json."""
  videos: dict[str, Ego4dVideo] = {}
  sets: list[Any] = []
  for path in paths:
    for line, name, value in json_members(path, ("videos",)):
      if name in _SETS:
        sets.append(value)
      if name != "videos":
        continue
      try:
        uid, facts = _video(value)
        if uid in videos:
          raise RecordError(f"is a second entry of the video {uid}")
        videos[uid] = facts
      except RecordError as error:
        report.leave_out(path, line, error)
  for number, entry in enumerate(_entries(sets)):
    for uid in _texts(entry):
      member = videos.get(uid.lower())
      if member is not None:
        names = (*member.simultaneous, f"set {number}")
        videos[uid.lower()] = dataclasses.replace(member, simultaneous=names)
  return videos


def ego4d_keys(videos: Mapping[str, Ego4dVideo]) -> dict[str, str]:
  """Id -> the one key of the videos of the same moment."""
  members: dict[str, list[str]] = {}
  for uid, facts in videos.items():
    for name in facts.simultaneous:
      group = members.setdefault(name, [])
      group.append(uid)
      if name.lower() in videos:
        group.append(name.lower())
  return splits.joined_keys(members.values())


def _entries(sets: Sequence[Any]) -> Iterator[Any]:
  """The sets of lists or objects of them."""
  for value in sets:
    if isinstance(value, Mapping):
      value = list(value.values())
    if isinstance(value, list):
      yield from value


def _texts(value: Any) -> Iterator[str]:
  """The texts in a value, two levels deep."""
  values = list(value.values()) if isinstance(value, Mapping) else [value]
  for inner in values:
    for text in inner if isinstance(inner, list) else [inner]:
      if isinstance(text, str):
        yield text


def _video(record: Any) -> tuple[str, Ego4dVideo]:
  """(id, facts) of an entry. Raises RecordError."""
  uid = record.get("video_uid") if isinstance(record, Mapping) else None
  if not isinstance(uid, str) or not uid:
    raise RecordError("has no video_uid")
  check_unicode(record)
  lengths = [record.get("duration_sec")]
  metadata = record.get("video_metadata")
  if isinstance(metadata, Mapping):
    lengths += [metadata.get("mp4_duration_sec"), metadata.get("video_duration_sec")]
  stated = [second for second in lengths if _is_length(second)]
  if not stated:
    raise RecordError(f"has the video {excerpt(uid)} without a duration")
  facts = Ego4dVideo(
    duration=float(min(stated)),
    redacted=tuple(_redacted(record)),
    is_stereo=bool(record.get("is_stereo")),
    simultaneous=tuple(_simultaneous(record)),
  )
  return uid.lower(), facts


def _is_length(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _redacted(record: Mapping[str, Any]) -> Iterator[Stretch]:
  """The blank stretches. Raises RecordError: a lost one would be asked about."""
  intervals = record.get("redacted_intervals") or []
  if not isinstance(intervals, list):
    raise RecordError("has redacted_intervals that are not a list")
  if record.get("has_redacted_regions") and not intervals:
    raise RecordError("has redacted regions without their times")
  for interval in intervals:
    times: Mapping[str, Any] = interval if isinstance(interval, Mapping) else {}
    start: Any = times.get("start_sec")
    end: Any = times.get("end_sec")
    if not _is_length(end) or not isinstance(start, int | float) or not start < end:
      raise RecordError("has a redacted interval without a start and an end")
    yield float(start), float(end)


def _simultaneous(record: Mapping[str, Any]) -> Iterator[str]:
  value = record.get("concurrent_sets") or []
  for entry in value if isinstance(value, list) else [value]:
    yield from _texts(entry)
