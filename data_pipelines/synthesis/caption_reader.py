# SPDX-License-Identifier: Apache-2.0
"""Reads captions of clips: files like LLaVA-Video-178K's `*_cap_processed.json`.

A record has one question and one caption, or a `caption`, and a `video`; its seconds stand under
`duration`, or as `start` and `end`, or come from elsewhere. Records of public data sets may have
the captions of several clips (manifest/captioned.py). Captions go to a file (the spool) beside the
columns, so that millions of clips take tens of megabytes.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import math
import os
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.manifest.captioned import record_captions
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.published.shape import WHOLE_VIDEO
from data_pipelines.manifest.reader import BadRecord, RecordError, located_records
from data_pipelines.manifest.report import place_text
from data_pipelines.media.parquet_cells import split_cell
from data_pipelines.synthesis import caption_templates, splits

_TEXTS = json.JSONEncoder(ensure_ascii=False)
_PRINTABLE = bytes(range(32, 127))  # The printable bytes of ASCII.
FEWEST_WORDS = 5  # The fewest words of a caption.
COLUMNS = {
  "key": np.uint64,  # Digest of the source video.
  "clip": np.uint64,  # Digest of medium, part and caption.
  "caption": np.uint64,  # Digest of the caption.
  "source": np.uint32,  # Number of the data source in CaptionFile.sources.
  "words": np.int32,
  "milliseconds": np.int64,  # Rounded down; -1 if unknown.
  "held_out": np.bool_,
  "missing": np.bool_,  # Whether the medium is not there.
  "line": np.int64,
  "start": np.int64,  # Bytes in the spool.
  "size": np.int32,
}


@dataclasses.dataclass(frozen=True)
class ReadingRules:
  """How captions are read; what decides which clips there are."""

  root: str = ""  # Folder of the media; "" leaves them unchecked.
  media: str = "{data_source}/{video}"  # The path of a medium, from the keys of its record.
  openers: str = "keep"
  held_out: float = 0.02  # Share of the source videos.
  seed: int = 42
  excluded: frozenset[str] = frozenset()  # Source keys.


@dataclasses.dataclass
class CaptionFile:
  """The clips of one file as columns."""

  columns: dict[str, np.ndarray]
  sources: list[str]
  bad: list[BadRecord]
  excluded: int


class Clip(NamedTuple):
  """What a spool holds of a clip.

  The fields are JSON texts, so that writing them is copying them.
  """

  id: bytes
  media: bytes
  start: bytes  # Seconds in the medium.
  caption: bytes  # Without its quotes.

  @property
  def path(self) -> str:
    """The path of the medium."""
    return json.loads(self.media)


def spool_entry(clip: Clip) -> bytes:
  """A clip for a spool, a text a line."""
  return b"\n".join(clip)


def spooled_clip(entry: bytes) -> Clip:
  """The inverse of `spool_entry`."""
  return Clip._make(entry.split(b"\n", 3))


@dataclasses.dataclass(frozen=True)
class CaptionReader:
  """Reads (file, spool to write). Picklable."""

  rules: ReadingRules
  durations: Mapping[str, float]  # By medium, for records without.

  def __call__(self, job: tuple[str, str]) -> CaptionFile:
    path, spool_path = job
    result = CaptionFile({}, [], [], 0)
    rows: dict[str, list] = {name: [] for name in COLUMNS}
    sources: dict[str, int] = {}
    place = 0
    with open(spool_path, "wb") as spool:
      for located in located_records(path):
        for number, record in enumerate(_captioned(located.record), 1):
          origin = f"{os.path.basename(path)}:{place_text(located.line, number)}"
          try:
            clip, facts = self._clip(record, origin)
          except (RecordError, ValueError) as error:
            result.bad.append(BadRecord(path, located.line, str(error)))
            continue
          if facts.pop("excluded"):
            result.excluded += 1
            reason = f"is excluded: {excerpt(clip.path)} is of a video in the exclusion lists"
            result.bad.append(BadRecord(path, located.line, reason))
            continue
          entry = spool_entry(clip)
          spool.write(entry)
          source = facts.pop("data_source")
          facts["source"] = sources.setdefault(source, len(sources))
          facts |= dict(line=located.line, start=place, size=len(entry))
          place += len(entry)
          for name, value in facts.items():
            rows[name].append(value)
    result.columns = {name: np.array(rows[name], kind) for name, kind in COLUMNS.items()}
    result.sources = list(sources)
    return result

  def _clip(self, record: Any, origin: str) -> tuple[Clip, dict[str, Any]]:
    """A record as a clip and its columns. Raises ValueError."""
    if isinstance(record, RecordError):
      raise record
    if not isinstance(record, Mapping):
      raise RecordError(f"is {excerpt(record)}, not an object")
    caption, words = _caption(record)
    if self.rules.openers == "scene":
      caption = caption_templates.name_scenes(caption)
      words = caption.count(" ") + 1
    media = self._media(record)
    start, milliseconds = _extent(record, self.durations.get(media))
    text = caption.encode()
    whole = record.get(WHOLE_VIDEO)
    key = splits.source_key(whole if isinstance(whole, str) and whole else media)
    split = splits.split_of(key, {splits.HELD_OUT: self.rules.held_out}, self.rules.seed)
    root = self.rules.root
    clip = Clip(
      id=_json_text(_name(record, origin)),
      media=_json_text(media),
      start=repr(start).encode(),
      caption=_json_content(caption, text),
    )
    facts = dict(
      excluded=key in self.rules.excluded,
      key=_digest(key.encode("utf-8", "surrogatepass")),
      clip=_digest(f"{media}\x1f{start:.3f}\x1f".encode("utf-8", "surrogatepass"), text),
      caption=_digest(text),
      data_source=str(record.get("data_source") or ""),
      words=words,
      milliseconds=milliseconds,
      held_out=split == splits.HELD_OUT,
      missing=bool(root) and not os.path.exists(os.path.join(root, _file(media))),
    )
    return clip, facts

  def _media(self, record: Mapping[str, Any]) -> str:
    """The path of a record's medium. Raises RecordError."""
    video = record.get("video")
    if not isinstance(video, str) or not video.strip():
      raise RecordError(f"has video {excerpt(video)}, which is not a path")
    source = record.get("data_source")
    if isinstance(source, str) and source:
      path = self.rules.media.format(data_source=source, video=video)
    else:
      path = video
    if os.path.isabs(path) and self.rules.root:  # A cell of a Parquet file.
      path = os.path.relpath(path, os.path.abspath(self.rules.root))
    parts = path.replace("\\", "/").split("/")
    if ".." in parts or path.startswith("/") or not path.isprintable():
      raise RecordError(f"has the video {excerpt(path)}, which is not a path inside a root")
    return path


def _captioned(record: Any) -> list[Any]:
  """The records of the captions in a record, or RecordErrors."""
  if not isinstance(record, Mapping) or "conversations" in record:
    return [record]
  try:
    captions = record_captions(record)
  except RecordError as error:
    return [error]
  return [record] if captions is None else list(captions)


def _file(media: str) -> str:
  """The file that holds a medium."""
  cell = split_cell(media)
  return media if cell is None else cell[0]


def _name(record: Mapping[str, Any], origin: str) -> str:
  """The id of a record, or its file and line."""
  name = record.get("id")
  if isinstance(name, str | int) and str(name).isprintable() and name != "":
    return str(name)
  return origin


def _json_text(text: str) -> bytes:
  """A text in JSON, with its quotes."""
  return _TEXTS.encode(text).encode()


def _json_content(text: str, data: bytes) -> bytes:
  """A text in JSON without its quotes. data: the text as UTF-8."""
  is_same = '"' not in text and "\\" not in text and _is_printable(text)
  return data if is_same else _json_text(text)[1:-1]


def _caption(record: Mapping[str, Any]) -> tuple[str, int]:
  """(the caption of a record without line breaks, its words). Raises RecordError."""
  answer = record.get("caption")
  if "conversations" in record or answer is None:
    answer = _answer(record)
  if not isinstance(answer, str):
    raise RecordError(f"has the caption {excerpt(answer)}, which is not a text")
  caption, words = _one_line(answer)
  try:
    caption.encode()
  except UnicodeEncodeError:
    raise RecordError("has a caption that is not UTF-8") from None
  if caption_templates.is_refusal(caption):
    raise RecordError(f"has an apology or an error as its caption: {excerpt(caption)}")
  if words < FEWEST_WORDS:
    raise RecordError(f"has a caption of {words} words: {excerpt(caption)}")
  return caption, words


def _answer(record: Mapping[str, Any]) -> Any:
  """The answer of a conversation of one question. Raises RecordError."""
  if "conversations" not in record:
    keys = excerpt(", ".join(map(str, record)), 200)
    raise RecordError(f"has neither a caption nor conversations; its keys are {keys}")
  turns = record["conversations"]
  if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
    raise RecordError(f"has conversations {excerpt(turns)}, which is not a list of turns")
  speakers = [turn.get("from") for turn in turns]
  if speakers != ["human", "gpt"]:
    raise RecordError(
      f"has turns from {excerpt(speakers)}; a caption has one from human, one from gpt"
    )
  return turns[1].get("value")


def _one_line(text: str) -> tuple[str, int]:
  """(a text with single spaces between its words, their number)."""
  # The space is the only blank that is printable. Splitting takes twice as long as this test.
  is_plain = _is_printable(text) and "  " not in text and text.strip() == text
  if is_plain and text:
    return text, text.count(" ") + 1
  words = text.split()
  return " ".join(words), len(words)


def _is_printable(text: str) -> bool:
  """`str.isprintable`, in a fifth of its time for ASCII."""
  if text.isascii():
    return not text.encode().translate(None, _PRINTABLE)
  return text.isprintable()


def _extent(record: Mapping[str, Any], duration: float | None) -> tuple[float, int]:
  """Where a clip begins in its medium (s), and its length (ms)."""
  start = _seconds(record, "start") or 0.0
  end = _seconds(record, "end")
  if end is None:
    end = _seconds(record, "duration")
  if end is None:
    end = duration
  begin = math.ceil(start * 1000 - 1e-6)
  if end is None:
    return begin / 1000, -1
  return begin / 1000, length_in_milliseconds(begin, end)


def length_in_milliseconds(begin: int, end: float) -> int:
  """From `begin` (ms) to `end` (s), rounded down.

  Rounded up, the last instant would lie beyond the file.
  """
  length = math.floor(end * 1000 + 1e-6) - begin
  if length <= 0:
    raise RecordError(f"lasts from {begin / 1000:g} to {end:g} seconds, which is not a time")
  return length


def _seconds(record: Mapping[str, Any], name: str) -> float | None:
  value = record.get(name)
  if value is None:
    return None
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not 0 <= value < 1e9:  # Also rejects NaN.
    raise RecordError(f"has {name} {excerpt(value)}, which is not a number of seconds")
  return float(value)


def _digest(*texts: bytes) -> int:
  """64 bits of the sha256 of joined texts."""
  digest = hashlib.sha256()
  for text in texts:
    digest.update(text)
  return int.from_bytes(digest.digest()[:8], "big")
