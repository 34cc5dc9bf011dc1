# SPDX-License-Identifier: Apache-2.0
"""Panda-70M: captions of the clips of HD-VILA's videos, joined to runs of neighbours.

A row is a video with lists of clips in Python's form. A clip was cut from the video and a tenth
trimmed at either end, so that neighbours of lengths d1 and d2 are 0.125 (d1 + d2) apart; a wider
gap hides a clip that was left out. This source shows whole videos; `panda70m_clips` those files
that the publisher's downloader cuts.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import NamedTuple

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.literal_text import literal_list
from data_pipelines.manifest.report import BadRecord, RecordError
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
from data_pipelines.synthesis.sources.key_set import KeySet
from data_pipelines.synthesis.sources.media_folder import MediaFolder, video_key
from data_pipelines.synthesis.sources.registry import TrackSource, check_split
from data_pipelines.synthesis.sources.tables import TableRow, check_unicode, table_rows
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Event, Track

COLUMNS = ("videoID", "url", "timestamp", "caption", "matching_score")
SHORTEST_RUN = 60.0  # Seconds.
FEWEST_CLIPS = 4  # In a run.
TRIMMED = 0.125  # A gap over the sum of the lengths beside it: 0.1 / (1 - 2 * 0.1).
TOLERANCE = 1.2  # Of the gap, for rounding to frames.
SLACK = 0.5  # Seconds.
FILES = (
  "a csv of segments (panda70m_training_full.csv) and, after it, csvs of the videos to take (as "
  "panda70m_training_10m.csv)"
)
LICENCE = "Snap's research licence, non-commercial; videos under their own terms"


class PandaClip(NamedTuple):
  """A clip of a video."""

  number: int  # In its row.
  t0: float  # Seconds in the source video.
  t1: float
  text: str


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track for each run of neighbouring clips."""
  yield from tracks_in_order(divide_reading(files, media_root, report), report)


def divide_reading(files: Sequence[str], media_root: str, report: TrackReport) -> DividedReading:
  """Batches of rows, and what parses them."""
  if not files:
    raise ValueError(f"panda70m takes {FILES}.")
  for path in files:
    check_split(path)
  batches = in_batches_of(ROWS, _wanted_rows(files, report))
  parse = functools.partial(_parsed_row, files[0], media_root)
  return DividedReading(batches, RowsParser(parse))


def _wanted_rows(files: Sequence[str], report: TrackReport) -> Iterator[TableRow]:
  """The rows of listed videos, and damaged ones."""
  path, *lists = files
  wanted = listed_videos(lists, report) if lists else None
  for row in table_rows(path, COLUMNS[:4], report):
    if wanted is not None and _is_of_another_video(row, wanted):
      report.repairs["rows: of videos that are not in the list, passed over"] += 1
      continue
    yield row


def _is_of_another_video(row: TableRow, wanted: KeySet) -> bool:
  try:
    return row_video(row.cells) not in wanted
  except RecordError:
    return False  # It is reported where it is parsed.


def _parsed_row(path: str, media_root: str, row: TableRow) -> ParsedRecords:
  """The tracks of a row's runs."""
  report = new_report()
  tracks: list[Track] = []
  video = ""
  try:
    video = row_video(row.cells)
    runs = usable_runs(row_clips(row.cells, report))
    key = video_key(video)
    name = MediaFolder(media_root).video(video)
    for run in runs:
      tracks.append(clean_track(_whole_video_track(key, name, run), report.repairs))
  except RecordError as error:
    report.leave_out(path, row.line, error)
  repetition = BadRecord(path, row.line, f"is a second row of the video {video}")
  return ParsedRecords(tracks, report.bad, report.repairs, video, repetition)


def listed_videos(paths: Sequence[str], report: TrackReport) -> KeySet:
  """The videos of csv files; their bad rows are reported."""
  videos = KeySet()
  for path in paths:
    for line, cells in table_rows(path, COLUMNS[:1], report):
      try:
        videos.add(row_video(cells))
      except RecordError as error:
        report.leave_out(path, line, error)
  return videos


def row_video(cells: Mapping[str, str] | RecordError) -> str:
  """The id of a row's video. Raises RecordError."""
  if isinstance(cells, RecordError):
    raise cells
  video = cells["videoID"].strip()
  if not video or "/" in video or not video.isprintable():
    raise RecordError(f"has the videoID {excerpt(video)}, which is not an id")
  return video


def row_clips(cells: Mapping[str, str] | RecordError, report: TrackReport) -> list[PandaClip]:
  """The clips of a row in time order. Raises RecordError."""
  if isinstance(cells, RecordError):
    raise cells
  times = literal_list(cells["timestamp"], "timestamp")
  captions = literal_list(cells["caption"], "caption")
  if len(times) != len(captions):
    raise RecordError(f"has {len(times)} times and {len(captions)} captions")
  check_unicode(captions)
  clips = []
  for number, (span, caption) in enumerate(zip(times, captions, strict=True)):
    if not isinstance(span, list | tuple) or len(span) != 2:
      raise RecordError(f"has a clip {number} without a start and an end")
    if not isinstance(caption, str):
      raise RecordError(f"has a caption {number} that is not a text")
    t0 = clock_seconds(span[0])
    t1 = clock_seconds(span[1])
    if t1 <= t0:
      report.repairs["clips: that end before they begin, dropped"] += 1
      continue
    clips.append(PandaClip(number, t0, t1, caption))
  clips.sort(key=_clip_order)
  return clips


def usable_runs(clips: Sequence[PandaClip]) -> list[list[PandaClip]]:
  """The runs of neighbours that are long enough.

  Raises RecordError if there are none.
  """
  runs = []
  for run in neighbour_runs(clips):
    if len(run) >= FEWEST_CLIPS and run[-1].t1 - run[0].t0 >= SHORTEST_RUN:
      runs.append(run)
  if not runs:
    raise RecordError(
      f"has no {FEWEST_CLIPS} neighbouring clips of together {SHORTEST_RUN:g} seconds"
    )
  return runs


def neighbour_runs(clips: Sequence[PandaClip]) -> Iterator[list[PandaClip]]:
  """Splits clips in time order where the gap hides a clip."""
  run: list[PandaClip] = []
  for clip in clips:
    if run and not are_neighbours(run[-1], clip):
      yield run
      run = []
    run.append(clip)
  if run:
    yield run


def are_neighbours(before: PandaClip, after: PandaClip) -> bool:
  """Whether nothing was left out between two clips."""
  gap = after.t0 - before.t1
  lengths = before.t1 - before.t0 + after.t1 - after.t0
  return -SLACK <= gap <= TRIMMED * lengths * TOLERANCE + SLACK


def _clip_order(clip: PandaClip) -> tuple[float, float, int]:
  return clip.t0, clip.t1, clip.number


def _whole_video_track(key: str, name: str, run: Sequence[PandaClip]) -> Track:
  start = run[0].t0
  end = max(clip.t1 for clip in run)
  events = []
  for clip in run:
    events.append(Event(round(clip.t0 - start, 6), round(clip.t1 - start, 6), clip.text))
  return Track(
    key=key,
    media=(Scene(name, t0=start, t1=end),),
    duration=round(end - start, 6),
    events=tuple(events),
    source="panda70m",
  )


SOURCE = TrackSource(read_tracks, FILES, "<videoID>.mp4, whole videos", LICENCE, divide_reading)
