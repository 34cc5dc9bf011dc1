# SPDX-License-Identifier: Apache-2.0
"""Panda-70M with the clip files of the publisher's downloader.

Row 1234's clip 3 is 00012/0001234_00003.mp4, with its video's id in the url of the .json beside it.
The gaps between clips are not in the files: a track's time is the sum of the clips' lengths.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import itertools
import json
import os
from typing import Any, NamedTuple

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import BadRecord, RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources import panda70m
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
from data_pipelines.synthesis.sources.panda70m import PandaClip
from data_pipelines.synthesis.sources.registry import TrackSource, check_split
from data_pipelines.synthesis.sources.tables import TableRow, table_rows
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Event, Track

ROWS_OF_A_FOLDER = 100
LARGEST_SIDECAR = 4 << 20  # Bytes.
FILES = "the csv that was downloaded from (rows give the files' names)"


class NumberedRow(NamedTuple):
  """A row with its number from 0, which names its clips' files."""

  number: int
  row: TableRow


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track for each run of neighbouring clips that are all there."""
  yield from tracks_in_order(divide_reading(files, media_root, report), report)


def divide_reading(files: Sequence[str], media_root: str, report: TrackReport) -> DividedReading:
  """Batches of numbered rows, and what parses them."""
  for path in files:
    check_split(path)
  if len(files) != 1:
    raise ValueError(f"panda70m_clips takes one csv, not {len(files)}: {FILES}.")
  rows = enumerate(table_rows(files[0], panda70m.COLUMNS[:4], report))
  batches = in_batches_of(ROWS, itertools.starmap(NumberedRow, rows))
  parse = functools.partial(_parsed_clips, files[0], media_root)
  return DividedReading(batches, RowsParser(parse))


def _parsed_clips(path: str, media_root: str, numbered: NumberedRow) -> ParsedRecords:
  """The tracks of a row's downloaded runs."""
  number, (line, cells) = numbered
  report = new_report()
  media = MediaFolder(media_root)
  tracks: list[Track] = []
  video = ""
  try:
    video = panda70m.row_video(cells)
    key = video_key(video)
    clips = panda70m.row_clips(cells, report)
    runs = _downloaded_runs(clips, number, media, report)
    for run in runs:
      _check_video(clip_name(number, run[0].number), key, media)
    for run in runs:
      tracks.append(clean_track(_clips_track(key, number, run), report.repairs))
  except RecordError as error:
    report.leave_out(path, line, error)
  repetition = BadRecord(path, line, f"is a second row of the video {video}")
  return ParsedRecords(tracks, report.bad, report.repairs, video, repetition)


def clip_name(row: int, clip: int) -> str:
  """The file of a clip: (1234, 3) is "00012/0001234_00003.mp4"."""
  return f"{row // ROWS_OF_A_FOLDER:05d}/{row:07d}_{clip:05d}.mp4"


def _downloaded_runs(
  clips: Sequence[PandaClip], row: int, media: MediaFolder, report: TrackReport
) -> list[list[PandaClip]]:
  """The usable runs of clips without a missing file. Raises RecordError."""
  runs = []
  for run in panda70m.neighbour_runs(clips):
    present: list[PandaClip] = []
    for clip in run:
      if media.exists(clip_name(row, clip.number)):
        present.append(clip)
        continue
      report.repairs["clips: without a file, dropped"] += 1
      runs.append(present)
      present = []
    runs.append(present)
  usable = []
  for run in runs:
    seconds = sum(clip.t1 - clip.t0 for clip in run)
    if len(run) >= panda70m.FEWEST_CLIPS and seconds >= panda70m.SHORTEST_RUN:
      usable.append(run)
  if not usable:
    raise RecordError(
      f"has no {panda70m.FEWEST_CLIPS} neighbouring clip files of together "
      f"{panda70m.SHORTEST_RUN:g} seconds"
    )
  return usable


def _check_video(name: str, key: str, media: MediaFolder) -> None:
  """Raises RecordError unless the file beside a clip names the row's video."""
  if not media.is_checked:
    return
  path = os.path.join(media.root, os.path.splitext(name)[0] + ".json")
  try:
    with open(path, "rb") as file:
      sidecar: Any = json.loads(file.read(LARGEST_SIDECAR))
  except (OSError, ValueError, RecursionError) as error:
    reason = getattr(error, "strerror", None) or "it is not JSON"
    raise RecordError(f"has the clip {name} without a readable .json: {reason}") from None
  url = sidecar.get("url") if isinstance(sidecar, Mapping) else None
  status = sidecar.get("status", "success") if isinstance(sidecar, Mapping) else ""
  if status != "success":
    raise RecordError(f"has the clip {name} with the status {excerpt(str(status))}")
  if not isinstance(url, str) or video_key(url) != key:
    raise RecordError(
      f"has the clip {name} of another video: {excerpt(str(url))}; give the csv that was downloaded"
    )


def _clips_track(key: str, row: int, run: Sequence[PandaClip]) -> Track:
  scenes = []
  events = []
  begin = 0.0
  for clip in run:
    length = round(clip.t1 - clip.t0, 6)
    end = round(begin + length, 6)
    scenes.append(Scene(clip_name(row, clip.number), t1=length, at=begin))
    events.append(Event(begin, end, clip.text))
    begin = end
  return Track(
    key=key,
    media=tuple(scenes),
    duration=begin,
    events=tuple(events),
    source="panda70m",
  )


SOURCE = TrackSource(
  read_tracks, FILES, "00000/0000000_00003.mp4 with .json files", panda70m.LICENCE, divide_reading
)
