# SPDX-License-Identifier: Apache-2.0
"""Splits by source video, so that no video is in two splits under two names.

HowTo100M, HD-VILA, Panda-70M, MiraData, ActivityNet, YouCook2, QVHighlights, LLaVA-Video's YouTube
clips, Video-MME and LVBench share the ids of YouTube: a key is the same for all of them.
"""

from collections.abc import Iterable, Iterator, Mapping
import csv
import json
import os
import pathlib
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt, one_line
from data_pipelines.manifest.reader import manifest_records
from data_pipelines.manifest.report import RecordError
from data_pipelines.media.parquet_cells import split_cell
from data_pipelines.synthesis import draw
from filax import files

TRAIN = "train"
HELD_OUT = "held_out"
# Keys of records that name a video, the surest first: Video-MME's video_id is a running number,
# its videoID the video.
ID_COLUMNS = ("youtube_id", "videoID", "video", "video_id", "q_uid", "key")
# Keys of objects that hold lists, and so name no video.
_COLLECTION = re.compile(r"(train|val|valid|validation|test)(_.*)?|videos|clips|data|annotations")
_DRAWS = 1 << 64  # The number of values of draw.digest.

_YOUTUBE = r"[A-Za-z0-9_-]{11}"
_SECONDS = r"[0-9]+(?:\.[0-9]+)?"
_EXTENSION = re.compile(
  r"\.(?:mp4|mkv|webm|avi|mov|m4v|flv|wmv|mpe?g|ts|3gp|gif|json|txt)", re.IGNORECASE
)
_RATE = re.compile(r"@[0-9.]+fps")  # The rate in the name of a folder of pictures.
_MEMBER = re.compile(r"\.(?:array_record[^#/]*|tar|parquet)#")  # Before a name inside a file.
_URL = re.compile(
  rf"https?://(?:[a-z]+\.)?(?:youtube\.com/(?:watch\?(?:.*&)?v=|shorts/|embed/)|youtu\.be/)"
  rf"({_YOUTUBE})(?![A-Za-z0-9_-]).*"
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SPLIT = re.compile(r"split_[0-9]+")  # Clips of YouCook2, in one folder per video.
_PANDA = re.compile(r"[0-9]{7}_[0-9]{5}")
# A name without its extension -> its key, the group. The first match wins.
_NAMES = (
  re.compile(rf"(?:ytb_|v_)?({_YOUTUBE})"),
  re.compile(rf"(?:ytb_|v_)?({_YOUTUBE})_{_SECONDS}_{_SECONDS}"),  # QVHighlights.
  re.compile(rf"({_YOUTUBE})\.[0-9]+"),  # HD-VILA.
  re.compile(r"(.+)-Scene-[0-9]+"),  # Vript.
  re.compile(rf"({_YOUTUBE})_[0-9]+(?:_[0-9]+to[0-9]+)?"),  # OpenVid-1M.
  re.compile(rf"[0-9]+_({_YOUTUBE})-[0-9]+"),  # MiraData.
  re.compile(rf"([A-Z0-9]{{5}})_{_SECONDS}_{_SECONDS}"),  # Charades.
)


def source_key(name: str) -> str:
  """The source video of a path, URL or id, under one name.

  A cell of a Parquet file is a source of its own: "x#3/video" for "a/x.parquet#3/video".
  Raises ValueError for a name that identifies no video (Panda-70M's clip files).
  """
  url = _URL.fullmatch(name)
  if url:
    return url[1]
  cell = split_cell(name)
  if cell:
    file = cell[0].replace("\\", "/")
    shard = file.rpartition("/")[2].removesuffix(".parquet")
    return shard + name[len(file) :]
  path = _MEMBER.split(name)[-1].replace("\\", "/").rstrip("/")
  uuid = _UUID.findall(path)
  if uuid:
    return uuid[-1].lower()
  folder, _, base = path.rpartition("/")
  stem = _stem(base)
  if _PANDA.fullmatch(stem):
    raise ValueError(
      f"{excerpt(name)} is the number of a row and of a clip, which identify no video. Take the "
      "id from the url in the clip's .json file."
    )
  if _SPLIT.fullmatch(stem) and folder:
    stem = folder.rpartition("/")[2]
  for form in _NAMES:
    match = form.fullmatch(stem)
    if match:
      return match[1]
  if not stem:
    raise ValueError(f"{excerpt(name)} names no video.")
  return stem


def _stem(base: str) -> str:
  """A file's name without extension or rate: "a.1.mp4" is "a.1"."""
  rate = _RATE.search(base)
  if rate and rate.end() == len(base):
    return base[: rate.start()]
  stem, dot, extension = base.rpartition(".")
  if stem and _EXTENSION.fullmatch(dot + extension):
    return stem
  return base


def joined_keys(groups: Iterable[Iterable[str]]) -> dict[str, str]:
  """Key -> the one key of its group.

  A group is videos of the same moment (the concurrent_sets of ego4d.json). Groups that share a
  member are one. The key of a group is its smallest member.
  """
  joined: dict[str, str] = {}
  members: dict[str, set[str]] = {}
  for group in groups:
    together = set(map(source_key, group))
    for key in sorted(together):
      if key in joined:
        together |= members.pop(joined[key], set())
    if not together:
      continue
    first = min(together)
    members[first] = together
    for key in together:
      joined[key] = first
  return joined


def split_of(key: str, shares: Mapping[str, float], seed: int) -> str:
  """The split of a source video: a name in `shares`, or "train".

  shares: name -> share of all videos, such as {"held_out": 0.02}. The split of a key is the same
  for all data sets with the same seed and shares.
  """
  drawn = draw.digest(seed, "split", key) / _DRAWS
  limit = 0.0
  for name, share in shares.items():
    limit += share
    if drawn < limit:
      return name
  return TRAIN


def read_id_list(path: str | os.PathLike) -> frozenset[str]:
  """The source keys of a list of videos, such as a benchmark's.

  The file has one id or path a line (# begins a comment), or it is .json, .jsonl, .csv or .tsv with
  one of ID_COLUMNS; a JSON object without them names the videos in its keys. Raises ValueError for
  an unreadable file, and for a row that names no video.
  """
  name = one_line(os.fspath(path))
  keys = set()
  try:
    for line, video in _listed(path):
      try:
        keys.add(source_key(video))
      except ValueError as error:
        raise ValueError(f"{name}:{line}: {error}") from None
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ValueError(f"The list of videos {name} cannot be read: {error}.") from error
  if not keys:
    raise ValueError(f"The list of videos {name} is empty.")
  return frozenset(keys)


def _listed(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
  """(line, name) of the videos in a list."""
  with open(path, encoding="utf-8-sig", newline="") as file:
    first = ""
    for first in file:
      if first.strip() and not first.startswith("#"):
        break
    if first.lstrip()[:1] in ("[", "{"):
      yield from _listed_json(path)
      return
    delimiter = "\t" if "\t" in first else ","
    columns = next(csv.reader([first], delimiter=delimiter), [])
    file.seek(0)
    if not set(map(str.strip, columns)).isdisjoint(ID_COLUMNS):
      yield from _listed_table(file, delimiter)
      return
    for line, text in enumerate(file, 1):
      video = text.strip()
      if video and not video.startswith("#"):
        yield line, video


def _listed_table(file: Iterable[str], delimiter: str) -> Iterator[tuple[int, str]]:
  rows = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
  for row in rows:
    yield rows.line_num, _named_video(row)


def _listed_json(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
  for line, record in manifest_records(path):
    if isinstance(record, RecordError):
      raise ValueError(f"{one_line(os.fspath(path))}:{line}: {record}")
    for video in _videos_of(record):
      yield line, video


def _videos_of(record: Any) -> list[str]:
  """The videos that an element of a list names."""
  if not isinstance(record, Mapping):
    return [str(record)]
  if not set(record).isdisjoint(ID_COLUMNS):
    return [_named_video(record)]
  videos = record.get("database", record)  # ActivityNet's key.
  if not isinstance(videos, Mapping):
    videos = record
  for key in videos:
    if _COLLECTION.fullmatch(key):
      raise ValueError(
        f"The list of videos has its entries under {excerpt(key)}. Save those to leave out as a "
        "list of their own."
      )
  return list(videos)


def _named_video(record: Mapping[str, Any]) -> str:
  """The video that a record names; "" if it names none."""
  for column in ID_COLUMNS:
    value = record.get(column)
    if isinstance(value, str | int) and str(value).strip():
      return str(value).strip()
  return ""


def write_held_out_list(path: str | os.PathLike, media: Iterable[str]) -> int:
  """Writes media in the form that config.data.exclude takes.

  media: names as a plan has them, the root of the media joined with a record's path. Returns their
  count.
  """
  count = 0
  path = pathlib.Path(path)
  with files.write_atomically(path) as file:
    for name in media:
      entry = {"media": name, "error": "held out", "origin": ""}
      file.write(json.dumps(entry).encode() + b"\n")
      count += 1
  return count
