# SPDX-License-Identifier: Apache-2.0
"""Ego4D with the captions of Ego4D-HCap.

The captions describe clips, segments and whole first-person videos. The files:

  ego4d.json                     lengths and redactions of the videos
  clips_*, segments_*, videos_*  HCap's three levels
  narration*.json                captions of points in time, used where there are no clips

HCap's files are pickles, which are read without executing anything (plain_pickle.py). The same
records are also read from a .json array.
"""

from collections.abc import Iterator, Mapping, Sequence
import os
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.reader import manifest_records
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis import draw
from data_pipelines.synthesis.sources import ego4d_texts
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.ego4d_videos import Ego4dVideo, ego4d_keys, ego4d_videos
from data_pipelines.synthesis.sources.grouped_rows import GroupedRow, GroupedRows
from data_pipelines.synthesis.sources.json_members import json_members
from data_pipelines.synthesis.sources.media_folder import MediaFolder
from data_pipelines.synthesis.sources.plain_pickle import pickled_elements
from data_pipelines.synthesis.sources.registry import (
  TrackSource,
  check_file,
  files_by_role,
  required_files,
)
from data_pipelines.synthesis.sources.tables import check_unicode
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Event, Part, Track

FILES = (
  "ego4d.json, and of HCap clips_train.pkl, segments_train.pkl, videos_train.pkl (also …_pseudo, "
  "or the same as .json), optionally narration*.json and durations*.jsonl"
)
ROLES = ("ego4d", "clips", "segments", "videos", "narration", "durations")
LONGEST_POINT = 5.0  # Seconds that a narration lasts at most, if the next one is later.


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track a video, with its segments as parts."""
  by_role = files_by_role(files, ROLES, FILES)
  for path in files:
    check_file(path)
  videos = ego4d_videos(required_files(by_role, "ego4d", FILES), report)
  media = MediaFolder(media_root, by_role["durations"])
  keys = ego4d_keys(videos)
  with GroupedRows() as rows:
    for role in ("clips", "segments", "videos"):
      for path in by_role[role]:
        rows.add_rows(_hcap_rows(role, path, report))
    for path in by_role["narration"]:
      rows.add_rows(_narration_rows(path, report))
    for video, group in rows.groups():
      try:
        track = _track(video, group, videos, media, report)
      except RecordError as error:
        report.leave_out(group[0].file, group[0].line, error)
        continue
      report.samples += 1
      key = keys.get(video, video)
      yield _named_track(track, key)


def _named_track(track: Track, key: str) -> Track:
  """A track under the key of its group of cameras."""
  fields = {name: getattr(track, name) for name in ("media", "duration", "events", "parts")}
  return Track(key=key, summary=track.summary, source=track.source, **fields)


def _elements(path: str) -> Iterator[tuple[int, Any]]:
  """(number or line, element) of a pickle or of JSON."""
  if os.path.splitext(path)[1].lower() not in (".pkl", ".pickle"):
    yield from manifest_records(path)
    return
  number = 0
  try:
    for element in pickled_elements(path):
      number += 1
      yield number, element
  except RecordError as error:
    yield number + 1, RecordError(f"{error}; it and what follows it are not read")


def _hcap_rows(role: str, path: str, report: TrackReport) -> Iterator[tuple[str, GroupedRow]]:
  parse = dict(clips=_clip, segments=_segment, videos=_summary)[role]
  for line, element in _elements(path):
    try:
      if isinstance(element, RecordError):
        raise element
      check_unicode(element)
      video, place, content = parse(element)
    except RecordError as error:
      report.leave_out(path, line, error)
      continue
    yield video, GroupedRow(place, path, line, [role, *content])


def _clip(element: Any) -> tuple[str, float, list]:
  if not isinstance(element, list | tuple) or len(element) != 4:
    raise RecordError("is not a clip of a video, start, end and caption")
  video, start, end, caption = element
  return _id(video), _second(start), [_second(end), _text(caption)]


def _segment(element: Any) -> tuple[str, float, list]:
  if not isinstance(element, Mapping):
    raise RecordError("is not an object of a segment")
  start = _second(element.get("start_sec"))
  description = _text(element.get("segment_description"))
  captions = element.get("captions_gt") or element.get("captions_pred") or []
  if not isinstance(captions, list | tuple):
    raise RecordError("has captions that are not a list")
  events = []
  for caption in captions:
    _, begin, (end, text) = _clip(caption)
    events.append([begin, end, text])
  content = [_second(element.get("end_sec")), description, _sid(element.get("sid")), events]
  return _id(element.get("vid")), start, content


def _summary(element: Any) -> tuple[str, float, list]:
  if not isinstance(element, Mapping):
    raise RecordError("is not an object of a video")
  sids = element.get("sids") or []
  if not isinstance(sids, list | tuple):
    raise RecordError("has sids that are not a list")
  start = element.get("start_sec")
  end = element.get("end_sec")
  begin = 0.0 if start is None else _second(start)
  stop = None if end is None else _second(end)
  text = _text(element.get("video_summary"))
  return _id(element.get("vid")), begin, [stop, text, [_sid(sid) for sid in sids]]


def _narration_rows(path: str, report: TrackReport) -> Iterator[tuple[str, GroupedRow]]:
  """A video's narrations of one annotator."""
  for line, video, record in json_members(path, ("videos",)):
    try:
      check_unicode([video, record])
    except RecordError as error:
      report.leave_out(path, line, error)
      continue
    passes = []
    for name in ("narration_pass_1", "narration_pass_2"):
      annotated = record.get(name) if isinstance(record, Mapping) else None
      if isinstance(annotated, Mapping) and isinstance(annotated.get("narrations"), list):
        passes.append(annotated)
    if not passes:
      report.leave_out(path, line, f"{excerpt(video)} has no narrations")
      continue
    chosen = draw.choose(passes, 0, "narration", video)
    try:
      content = ["narrations", _points(chosen["narrations"], report), _stretches(chosen)]
    except RecordError as error:
      report.leave_out(path, line, f"{excerpt(video)} {error}")
      continue
    yield video.lower(), GroupedRow(0.0, path, line, content)


def _points(narrations: Sequence[Any], report: TrackReport) -> list[list]:
  points = []
  for entry in narrations:
    if not isinstance(entry, Mapping):
      raise RecordError("has a narration that is not an object")
    second = _second(entry.get("timestamp_sec"))
    text = _text(entry.get("narration_text"))
    if text.lower().lstrip().startswith("#summary"):
      report.repairs["narrations: summaries among them, dropped"] += 1
      continue
    points.append([second, text])
  points.sort()
  return points


def _stretches(annotated: Mapping[str, Any]) -> list[list]:
  stretches = []
  for entry in annotated.get("summaries") or []:
    if not isinstance(entry, Mapping):
      raise RecordError("has a summary that is not an object")
    start = _second(entry.get("start_sec"))
    end = _second(entry.get("end_sec"))
    stretches.append([start, end, _text(entry.get("summary_text"))])
  return stretches


def _track(
  video: str,
  rows: Sequence[GroupedRow],
  videos: Mapping[str, Ego4dVideo],
  media: MediaFolder,
  report: TrackReport,
) -> Track:
  """The track of a video. Raises RecordError."""
  if video not in videos:
    raise RecordError(f"is of the video {excerpt(video)}, which is not in ego4d.json")
  facts = videos[video]
  if facts.is_stereo:
    raise RecordError(f"is of the video {excerpt(video)}, which shows two pictures side by side")
  name = media.video(video)
  duration = min(facts.duration, media.duration(name) or facts.duration)
  start, summary, sids = _chosen_summary(video, rows, report)
  stop = duration if summary is None else min(duration, summary[0] or duration)
  if stop <= start:
    raise RecordError(f"has a summary from {start:g} s on, beyond the {duration:g} s of its video")
  segments = _segments(rows, sids, report)
  events = _events(rows, segments, report)
  if not events:
    raise RecordError(f"is of the video {excerpt(video)}, which has no clips or narrations")
  shifted = [Event(event.t0 - start, event.t1 - start, event.text) for event in events]
  track = Track(
    key=video,
    media=(Scene(name, t0=start, t1=stop),),
    duration=stop - start,
    events=tuple(shifted),
    parts=tuple(_parts(segments, events, start)),
    summary="" if summary is None else ego4d_texts.plain_text(summary[1]),
    source="ego4d_hcap",
  )
  redacted = [(begin - start, end - start) for begin, end in facts.redacted]
  track = clean_track(track, report.repairs, redacted)
  if not track.events:
    raise RecordError(f"is of the video {excerpt(video)}, none of whose clips is usable")
  return track


def _chosen_summary(
  video: str, rows: Sequence[GroupedRow], report: TrackReport
) -> tuple[float, list | None, frozenset[str]]:
  """(start, [end, text], segments) of one of the annotators' summaries."""
  summaries = [row for row in rows if row.content[0] == "videos"]
  if not summaries:
    return 0.0, None, frozenset()
  chosen = draw.choose(summaries, 0, "summary", video)
  for row in summaries:
    if row is not chosen:
      report.leave_out(row.file, row.line, f"is another summary of the video {excerpt(video)}")
  end, text, sids = chosen.content[1:]
  return chosen.place, [end, text], frozenset(sids)


def _segments(
  rows: Sequence[GroupedRow], sids: frozenset[str], report: TrackReport
) -> list[tuple[float, float, str, list]]:
  """(start, end, text, captions) of the summary's segments, of all without one."""
  segments: list[tuple[float, float, str, list]] = []
  for row in rows:
    if row.content[0] == "narrations" and not segments:
      for start, end, text in row.content[2]:
        segments.append((start, end, text, []))
    if row.content[0] != "segments":
      continue
    end, text, sid, captions = row.content[1:]
    if sids and sid not in sids:
      report.leave_out(row.file, row.line, f"is the segment {excerpt(sid)} of another annotator")
      continue
    segments.append((row.place, end, text, captions))
  return segments


def _events(
  rows: Sequence[GroupedRow], segments: Sequence[tuple], report: TrackReport
) -> list[Event]:
  """The clips in time order; without clips the segments' captions, or narrations."""
  spans = []
  for row in rows:
    if row.content[0] == "clips":
      spans.append((row.place, *row.content[1:]))
  if not spans:
    for _, _, _, captions in segments:
      spans.extend(map(tuple, captions))
  if not spans:
    for row in rows:
      if row.content[0] == "narrations":
        spans.extend(_lasting(row.content[1]))
  events = []
  for start, end, text in sorted(spans):
    if ego4d_texts.is_unsure(text):
      report.repairs["events: with an unsure word, dropped"] += 1
      continue
    events.append(Event(start, end, ego4d_texts.plain_text(text)))
  return events


def _lasting(points: Sequence[Sequence]) -> Iterator[tuple[float, float, str]]:
  """Points in time as stretches to the next point."""
  for number, (second, text) in enumerate(points):
    end = second + LONGEST_POINT
    if number + 1 < len(points):
      end = min(end, points[number + 1][0])
    yield second, end, text


def _parts(segments: Sequence[tuple], events: Sequence[Event], shift: float) -> Iterator[Part]:
  """The segments with the events that begin in them."""
  for start, end, text, _ in segments:
    numbers = [n for n, event in enumerate(events) if start <= event.t0 < end]
    first = numbers[0] if numbers else 0
    stop = numbers[-1] + 1 if numbers else 0
    yield Part(start - shift, end - shift, ego4d_texts.plain_text(text), first, stop)


def _id(value: Any) -> str:
  if not isinstance(value, str) or not value.strip():
    raise RecordError("names no video")
  return value.strip().lower()


def _sid(value: Any) -> str:
  if not isinstance(value, str | int):
    raise RecordError("has a segment's id that is none")
  return str(value)


def _second(value: Any) -> float:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not -1e9 < value < 1e9:
    raise RecordError("has a time that is not a number of seconds")
  return float(value)


def _text(value: Any) -> str:
  if not isinstance(value, str) or not value.strip():
    raise RecordError("has no text")
  return value


SOURCE = TrackSource(
  read_tracks,
  FILES,
  "<video_uid>.mp4",
  "Ego4D agreement, signed per institution; HCap's repository MIT",
)
