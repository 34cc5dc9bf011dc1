# SPDX-License-Identifier: Apache-2.0
"""HT-Step: steps of cooking recipes in HowTo100M's videos, with all occurrences.

annotations.json has the segments of a video, each with the global index of its step. taxonomy.csv
has the steps. The index has holes, so it is not a row number.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.json_members import JsonMember, json_members
from data_pipelines.synthesis.sources.media_folder import MediaFolder, video_key
from data_pipelines.synthesis.sources.registry import (
  TrackSource,
  files_by_role,
  required_files,
)
from data_pipelines.synthesis.sources.tables import check_unicode, table_rows
from data_pipelines.synthesis.sources.track_report import TrackReport, counted
from data_pipelines.synthesis.track import Event, Track

FILES = (
  "annotations.json, taxonomy.csv, and optionally video_splits.json and durations*.jsonl of media "
  "and duration"
)
TRAIN = "train"
FEWEST_CHECKED = 20  # Videos before steps of other activities mean that the index is wrong.


class RecipeStep(NamedTuple):
  """A row of the taxonomy."""

  activity: str
  headline: str


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track a training video.

  Raises ManifestError if most steps are of another activity than their video: then the files do not
  belong together.
  """
  by_role = files_by_role(files, ("annotations", "taxonomy", "video_splits", "durations"), FILES)
  steps = _taxonomy(required_files(by_role, "taxonomy", FILES), report)
  held_out = _other_splits(by_role["video_splits"])
  media = MediaFolder(media_root, by_role["durations"])
  reader = _HtStepReader(steps, held_out, media, report)
  for path in required_files(by_role, "annotations", FILES):
    yield from counted(reader.tracks(path), report)


def _taxonomy(paths: Sequence[str], report: TrackReport) -> dict[int, RecipeStep]:
  """Global index -> step."""
  steps = {}
  columns = ("global_step_index", "activity", "headline")
  for path in paths:
    for line, cells in table_rows(path, columns, report):
      try:
        if isinstance(cells, RecordError):
          raise cells
        index = cells["global_step_index"].strip()
        if not index.isdecimal():
          raise RecordError(f"has the index {excerpt(index)}, which is not a number")
        headline = " ".join(cells["headline"].split())
        if not headline:
          raise RecordError("has no headline")
        if int(index) in steps:
          raise RecordError(f"is a second step {index}")
        steps[int(index)] = RecipeStep(cells["activity"], headline)
      except RecordError as error:
        report.leave_out(path, line, error)
  return steps


def _other_splits(paths: Sequence[str]) -> dict[str, str]:
  """Video -> its split, of those that are not in train."""
  videos = {}
  for path in paths:
    for _, split, listed in json_members(path):
      if split == TRAIN or not isinstance(listed, list | dict):
        continue
      for video in listed:
        videos[str(video)] = split
  return videos


class _HtStepReader:
  """Reads annotations with a taxonomy."""

  def __init__(
    self,
    steps: Mapping[int, RecipeStep],
    held_out: Mapping[str, str],
    media: MediaFolder,
    report: TrackReport,
  ):
    self.steps = steps
    self.held_out = held_out
    self.media = media
    self.report = report
    self.seen: set[str] = set()
    self.checked = 0  # Videos whose activity was compared,
    self.mismatched = 0  # and those with steps of another one.

  def tracks(self, path: str) -> Iterator[Track]:
    """The tracks of a file of annotations."""
    for member in json_members(path):
      try:
        track = self._track(path, member)
      except RecordError as error:
        self.report.leave_out(path, member.line, error)
        continue
      yield track

  def _track(self, path: str, member: JsonMember) -> Track:
    """The track of a video. Raises RecordError."""
    record = member.value
    check_unicode([member.name, record])
    if not isinstance(record, Mapping) or not isinstance(record.get("annotations"), list):
      raise RecordError(f"{excerpt(member.name)} has no list of annotations")
    split = self.held_out.get(member.name, record.get("subset", TRAIN))
    if split != TRAIN:
      raise RecordError(f"{excerpt(member.name)} is of the split {excerpt(split)}")
    key = video_key(member.name)
    if key in self.seen:
      raise RecordError(f"{excerpt(member.name)} is a second entry of this video")
    self.seen.add(key)
    activity = str(record.get("activity", ""))
    events = self._events(path, member, activity)
    name = self.media.video(member.name)
    duration = self.media.duration(name)
    if duration is None:
      duration = max(event.t1 for event in events)
      self.report.repairs["tracks: of unknown duration, ended with the last event"] += 1
    track = Track(
      key=key,
      media=(Scene(name, t1=duration),),
      duration=duration,
      events=tuple(events),
      summary=activity,
      source="htstep",
      exhaustive=True,
    )
    track = clean_track(track, self.report.repairs)
    if not track.events:
      raise RecordError(f"{excerpt(member.name)} has no step inside of its video")
    return track

  def _events(self, path: str, member: JsonMember, activity: str) -> list[Event]:
    """The steps of a video. Raises RecordError."""
    events = []
    others = set()
    for entry in member.value["annotations"]:
      try:
        step = self._step(entry)
        start, end = _segment(entry)
      except RecordError as error:
        self.report.leave_out(path, member.line, f"{excerpt(member.name)} {error}")
        continue
      if activity and _normalised(step.activity) != _normalised(activity):
        others.add(step.activity)
      events.append(Event(start, end, step.headline))
    if not events:
      raise RecordError(f"{excerpt(member.name)} has no usable annotation")
    self._check_activity(path, member.name, activity, sorted(others))
    return events

  def _step(self, entry: Any) -> RecipeStep:
    number = entry.get("id") if isinstance(entry, Mapping) else None
    if isinstance(number, str) and number.isdecimal():
      number = int(number)
    if not isinstance(number, int) or isinstance(number, bool):
      raise RecordError("has an annotation without the id of a step")
    if number not in self.steps:
      raise RecordError(f"has an annotation of step {number}, which is not in the taxonomy")
    return self.steps[number]

  def _check_activity(self, path: str, video: str, activity: str, others: Sequence[str]) -> None:
    """Raises RecordError for steps of another activity than the video's.

    Raises ManifestError if that is the rule.
    """
    self.checked += 1
    if not others:
      return
    self.mismatched += 1
    if self.checked >= FEWEST_CHECKED and 2 * self.mismatched > self.checked:
      raise ManifestError(
        f"{path}: {self.mismatched} of {self.checked} videos have steps of another activity than "
        f"theirs, such as {excerpt(video)}. The ids of the annotations are not those of this "
        "taxonomy."
      )
    raise RecordError(
      f"{excerpt(video)} is of the activity {excerpt(activity)} but has steps of "
      f"{excerpt(others[0])}"
    )


def _segment(entry: Mapping[str, Any]) -> tuple[float, float]:
  """The times of an annotation. Raises RecordError."""
  segment = entry.get("segment")
  if not isinstance(segment, list) or len(segment) != 2:
    raise RecordError("has an annotation without a segment")
  for second in segment:
    if not isinstance(second, int | float) or not abs(second) < 1e9:
      raise RecordError("has an annotation with a segment that is not a pair of seconds")
  return float(segment[0]), float(segment[1])


def _normalised(activity: str) -> str:
  return " ".join(activity.casefold().split())


SOURCE = TrackSource(
  read_tracks, FILES, "<video id>.mp4 or .webm of HowTo100M", "CC-BY-NC-4.0 (annotations)"
)
