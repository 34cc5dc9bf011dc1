# SPDX-License-Identifier: Apache-2.0
"""Finds media and times under keys of a record that are not read."""

from collections.abc import Mapping, Sequence
import functools
import math
import re
from typing import Any

from data_pipelines.manifest import options
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Timeline

MEDIA = ("image", "video", "scenes")
PLURALS = {"image": "images", "video": "videos"}
# Keys that readers of records take texts from, or turns.
TEXTS = frozenset(
  (
    *("system", "conversations", "messages", "history", *options.KEYS),
    *("query", "response", "question", "answer", "q", "a", "caption", "text"),
    *("events", "sentence", "sentences", "QA", "problem", "process", "solution"),
  )
)

_OF_TURNS = ("from", "value", "role", "content", "type", "text")

# Keys of other software: "Image", "video_path", "imageURL", "input_video", "frame_paths" …
_KIND = r"(video|vid|image|img|picture|photo|media|gif|clip|scene|keyframe|frame|youtube|movie)s?"
_ABOUT = (
  r"(path|file|filename|url|uri|link|dir|folder|list|id|uid|name|src|source|input|local|abs|rel)"
)
_NAMES_MEDIA = re.compile(rf"{_ABOUT}*({_KIND})+{_ABOUT}*s?")
_MEDIA_AGAIN = re.compile(r"(video|image|scene)s?[ _-]?[0-9]*", re.IGNORECASE)
# Values that name a medium: a file, or a member of a tar or a cell of a Parquet file.
_NAME = re.compile(
  r"\S+\.(mp4|m4v|mkv|webm|avi|mov|flv|wmv|mpe?g|gif|jpe?g|png|webp|bmp|tiff?)"
  r"|\S+\.(tar|parquet)#\S+",
  re.IGNORECASE,
)
_LONGEST_NAME = 4096
_ENTRIES = 8  # Of a long list, only the first are looked at.
# Keys of times: "start_time", "video_end", "begin", "end_frame", "clip_start_sec" …
_TIME = re.compile(
  r"(video|clip|segment|frame|time|t)?(start|end|begin|stop)"
  r"(time|timestamp|sec|second|ts|frame|frameidx|idx)?s?"
)
_CLOCK = re.compile(r"(\d+:)*\d+(\.\d+)?")


def empty_keys(record: Mapping[str, Any]) -> list[str]:
  """The media keys of a record without content."""
  return [key for key in record if _names_media(key) and _is_empty(record[key])]


def check_media_keys(
  record: Mapping[str, Any], filled: Sequence[str], read: Sequence[str] = MEDIA
) -> None:
  """Raises RecordError for media under keys that are not read.

  `filled`: what shows the media of the record. `read`: the keys that its format reads.
  """
  keys = f"{', '.join(read[:-1])} or {read[-1]}"
  for key, value in record.items():
    if key in read or key in PLURALS.values() or _is_empty(value):
      continue
    if not filled and (_names_media(key) or (key not in TEXTS and _holds_name(value))):
      raise RecordError(
        f"has its media in {_entry(key, value)}, which is not read; name them in {keys}"
      )
    if filled and _names_more_media(key):
      raise RecordError(
        f"has {' and '.join(filled)} and {_entry(key, value)}, which is not read; name all media "
        f"in {keys}"
      )


def check_turn_keys(turn: Mapping[str, Any], where: str) -> None:
  """Raises RecordError for a medium beside the text of a turn."""
  if len(turn) == 2:  # Its speaker and its text, as nearly everywhere.
    return
  for key, value in turn.items():
    if key in _OF_TURNS or _is_empty(value):
      continue
    if _names_media(key) or _holds_name(value):
      raise RecordError(
        f"has {where} with {_entry(key, value)}, which is not read; name media beside the turns, "
        "or in parts of a message's content"
      )


def check_times(record: Mapping[str, Any], timelines: Sequence[Timeline]) -> None:
  """Raises RecordError for times under keys that are not read.

  Such a video would be shown as a whole. Nothing is raised if any part of a video is selected.
  """
  scenes = [scene for timeline in timelines for scene in timeline]
  if not any(scene.kind == "video" for scene in scenes):
    return
  if any(scene.t0 or scene.t1 is not None for scene in scenes):
    return
  for key, value in record.items():
    if _names_time(key) and _is_time(value):
      raise RecordError(
        f"has {_entry(key, value)} beside a video, which is not read; write seconds of the file as "
        "start and end, or remove the key if the file is the part already"
      )


def _entry(key: str, value: Any) -> str:
  """An excerpt of a record's entry, for messages."""
  return f"{excerpt(key)}: {excerpt(value)}"


@functools.lru_cache(maxsize=1000)  # The records of a manifest have the same few keys.
def _names_media(key: str) -> bool:
  return _NAMES_MEDIA.fullmatch(_letters(key)) is not None


@functools.lru_cache(maxsize=1000)
def _names_more_media(key: str) -> bool:
  return _MEDIA_AGAIN.fullmatch(key) is not None


@functools.lru_cache(maxsize=1000)
def _names_time(key: str) -> bool:
  return key not in ("start", "end") and _TIME.fullmatch(_letters(key)) is not None


def _letters(key: str) -> str:
  return re.sub(r"[^a-z]", "", key.lower())


def _holds_name(value: Any) -> bool:
  """Whether a value is the name of a medium, or holds one."""
  if isinstance(value, str):
    return len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None
  if isinstance(value, Mapping):
    value = list(value.values())
  return isinstance(value, list) and any(map(_holds_name, value[:_ENTRIES]))


def _is_time(value: Any) -> bool:
  """Whether a value is one or several times, not all 0."""
  if isinstance(value, list):
    return any(map(_is_time, value[:_ENTRIES]))
  if isinstance(value, str):
    return _CLOCK.fullmatch(value.strip()) is not None and value.strip(" 0:.") != ""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return value > 0


def _is_empty(value: Any) -> bool:
  """Whether a value is empty, like the empty columns of a table."""
  if isinstance(value, str):
    return not value.strip()
  if isinstance(value, float):
    return math.isnan(value)
  return value is None or value is False or value in ([], {})
