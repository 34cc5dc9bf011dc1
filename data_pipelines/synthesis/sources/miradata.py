# SPDX-License-Identifier: Apache-2.0
"""MiraData: six captions of clips of one to two minutes, joined where clips follow each other.

Version 0 has times in frames and one `index`, version 1 a `timestamp` in Python's form and a
`clip_id`, which is text: as numbers 12.1 and 12.10 would be the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import re
from typing import NamedTuple

from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.literal_text import literal_list
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources.clean import clean_track
from data_pipelines.synthesis.sources.grouped_rows import GroupedRow, GroupedRows
from data_pipelines.synthesis.sources.media_folder import MediaFolder, video_key
from data_pipelines.synthesis.sources.registry import TrackSource, check_file, files_by_role
from data_pipelines.synthesis.sources.tables import table_rows
from data_pipelines.synthesis.sources.track_report import TrackReport, counted
from data_pipelines.synthesis.track import Event, Part, Track

CAPTIONS = ("main_object_caption", "background_caption", "dense_caption", "short_caption")
FILES = "miradata_v0.csv, or miradata_v1_330k.csv (93k, 42k, 9k)"
LARGEST_GAP = 1.0  # Seconds between the end of a clip and the start of its follower.
_INDEX = re.compile(r"(\d+)_(.+)-(\d+)", re.ASCII)
_CLIP_ID = re.compile(r"(\d+)\.(\d+)", re.ASCII)


class MiraClip(NamedTuple):
  """A row."""

  video: str  # The id of the source video.
  number: int  # Of the clip in its video.
  t0: float  # Seconds in the source video.
  t1: float
  file: str  # The clip's own file.
  event: str  # What the main object does.
  place: str
  dense: str
  short: str


def read_tracks(files: Sequence[str], media_root: str, report: TrackReport) -> Iterator[Track]:
  """A track for each clip or chain of clips.

  Whole source videos are shown where they are there, clip files otherwise. report.repairs counts
  the clips in chains of two or more.
  """
  files_by_role(files, ("miradata",), FILES)
  for path in files:
    check_file(path)
  media = MediaFolder(media_root)
  with GroupedRows() as rows:
    for path in files:
      rows.add_rows(_rows(path, report))
    for _, group in rows.groups():
      yield from counted(_tracks(group, media, report), report)


def _rows(path: str, report: TrackReport) -> Iterator[tuple[str, GroupedRow]]:
  """Rows under their source video."""
  for line, cells in table_rows(path, CAPTIONS, report):
    try:
      if isinstance(cells, RecordError):
        raise cells
      group, clip = _version(path, cells)(cells)
      key = video_key(clip.video)
    except RecordError as error:
      report.leave_out(path, line, error)
      continue
    yield f"{key} {group}", GroupedRow(clip.number, path, line, list(clip))


def _version(
  path: str, cells: Mapping[str, str]
) -> Callable[[Mapping[str, str]], tuple[str, MiraClip]]:
  """The parser of a table's rows. Raises ManifestError."""
  if "clip_id" in cells and "timestamp" in cells and "video_id" in cells:
    return _row_of_1
  if "index" in cells and "start_frame" in cells and "end_frame" in cells and "fps" in cells:
    return _row_of_0
  raise ManifestError(
    f"The table {path} has neither index, start_frame, end_frame and fps (version 0) nor clip_id, "
    "video_id and timestamp (version 1)."
  )


def _row_of_0(cells: Mapping[str, str]) -> tuple[str, MiraClip]:
  """(group, clip) of a row of version 0. Raises RecordError."""
  index = cells["index"].strip()
  match = _INDEX.fullmatch(index)
  if match is None:
    raise RecordError(f"has the index {excerpt(index)}, which is not NUMBER_VIDEO-CLIP")
  rate = _number(cells, "fps")
  if rate <= 0:
    raise RecordError(f"has the fps {rate:g}")
  start = round(_number(cells, "start_frame") / rate, 6)
  end = round(_number(cells, "end_frame") / rate, 6)
  return "0", _clip(cells, match[2], int(match[3]), start, end, f"{index}.mp4")


def _row_of_1(cells: Mapping[str, str]) -> tuple[str, MiraClip]:
  """(group, clip) of a row of version 1. Raises RecordError."""
  match = _CLIP_ID.fullmatch(cells["clip_id"].strip())
  if match is None:
    raise RecordError(f"has the clip_id {excerpt(cells['clip_id'])}, which is not NUMBER.CLIP")
  span = literal_list(cells["timestamp"], "timestamp")
  if len(span) != 2:
    raise RecordError(
      f"has the timestamp {excerpt(cells['timestamp'])}, which is not a start and end"
    )
  start = clock_seconds(span[0])
  end = clock_seconds(span[1])
  path = cells.get("file_path", "").strip() or f"{cells['clip_id'].strip()}.mp4"
  clip = _clip(cells, cells["video_id"].strip(), int(match[2]), start, end, path)
  return f"1 {int(match[1])}", clip


def _clip(
  cells: Mapping[str, str], video: str, number: int, start: float, end: float, path: str
) -> MiraClip:
  """A clip with its captions. Raises RecordError."""
  if not video:
    raise RecordError("has no video_id")
  if not 0 <= start < end:
    raise RecordError(f"lasts from {start:g} to {end:g} seconds, which is not a time")
  captions = [" ".join(cells[name].split()) for name in CAPTIONS]
  if not captions[0]:
    raise RecordError("has no main_object_caption")
  return MiraClip(video, number, start, end, path, *captions)


def _number(cells: Mapping[str, str], name: str) -> float:
  try:
    value = float(cells[name])
  except ValueError:
    value = float("nan")
  if not abs(value) < 1e9:
    raise RecordError(f"has the {name} {excerpt(cells[name])}, which is not a number")
  return value


def _tracks(
  group: Sequence[GroupedRow], media: MediaFolder, report: TrackReport
) -> Iterator[Track]:
  """The tracks of the clips of a source video."""
  whole = _whole_video(MiraClip(*group[0].content).video, media)
  chain: list[MiraClip] = []
  numbers = set()
  for row in group:
    clip = MiraClip(*row.content)
    try:
      if clip.number in numbers:
        raise RecordError(f"is a second row of clip {clip.number} of {excerpt(clip.video)}")
      numbers.add(clip.number)
      if not whole:
        media.check(clip.file)
    except RecordError as error:
      report.leave_out(row.file, row.line, error)
      continue
    if chain and not _follows(chain[-1], clip):
      yield _chain_track(chain, whole, report)
      chain = []
    chain.append(clip)
  if chain:
    yield _chain_track(chain, whole, report)


def _whole_video(video: str, media: MediaFolder) -> str:
  """The name of a source video; "" if it is not there."""
  try:
    return media.video(video)
  except RecordError:
    return ""


def _follows(before: MiraClip, after: MiraClip) -> bool:
  if after.number != before.number + 1 or after.t1 <= before.t1:
    return False
  return abs(after.t0 - before.t1) <= LARGEST_GAP


def _chain_track(chain: Sequence[MiraClip], whole: str, report: TrackReport) -> Track:
  """A track of clips that follow each other."""
  report.repairs["clips: read"] += len(chain)
  if len(chain) > 1:
    report.repairs["clips: in chains of neighbours"] += len(chain)
  start = chain[0].t0
  begin = 0.0
  scenes = []
  events = []
  parts = []
  for number, clip in enumerate(chain):
    length = round(clip.t1 - clip.t0, 6)
    scenes.append(Scene(clip.file, t1=length, at=begin))
    end = round(begin + length, 6)
    if whole:
      begin = round(max(begin, clip.t0 - start), 6)
      end = round(clip.t1 - start, 6)
    events.append(Event(begin, end, clip.event, place=clip.place))
    parts.append(Part(begin, end, clip.dense, number, number + 1))
    begin = end
  if len(chain) > 1:
    parts.insert(0, Part(0.0, begin, "", 0, len(chain)))
  track = Track(
    key=video_key(chain[0].video),
    media=(Scene(whole, t0=start, t1=chain[-1].t1),) if whole else tuple(scenes),
    duration=begin,
    events=tuple(events),
    parts=tuple(parts),
    summary=chain[0].short if len(chain) == 1 else "",
    source="miradata",
  )
  return clean_track(track, report.repairs)


SOURCE = TrackSource(
  read_tracks,
  FILES,
  "<video_id>.mp4 of whole videos, or the clips as file_path (version 1) or <index>.mp4 name them",
  "GPL-3.0 (annotations); videos under their own terms",
)
