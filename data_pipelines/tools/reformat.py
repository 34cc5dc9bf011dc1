# SPDX-License-Identifier: Apache-2.0
"""Writes a manifest in another format, and says what the other format cannot hold."""

from collections import Counter
from collections.abc import Iterator, Mapping
import dataclasses
import json
import os
from typing import Any, BinaryIO, TextIO

from data_pipelines.manifest import llava
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.llava_media import check_text
from data_pipelines.manifest.reader import (
  BadRecord,
  ManifestReport,
  RecordError,
  located_records,
)
from data_pipelines.manifest.written_records import Rename, llava_record, messages_record
from data_pipelines.media.open import MediaError
from data_pipelines.sample import Sample
from data_pipelines.tools.manifest_writers import (
  EXTRA,
  SUFFIXES,
  JsonWriter,
  ParquetWriter,
  RecordWriter,
  TarWriter,
)
from filax import files
from filax.progress import WorkProgress

SHAPES = {"llava": llava_record, "messages": messages_record}
# Keys that a sample holds, or that records of other formats become; the rest is carried over.
_HELD = frozenset(
  (
    *("id", "kind", "conversations", "messages", "system", EXTRA),
    *("image", "images", "video", "videos", "scenes", "start", "end"),
    *("video_path", "caption", "text", "query", "sentence", "question", "answer", "response"),
    *("options", "choices", "candidates", "q", "a", "QA"),
    *("problem", "process", "solution", "path", "data_type"),
    *("history", "timestamp", "timestamps", "span", "relevant_windows", "events", "sentences"),
  )
)
# Keys of parts whose content a sample does not hold.
_HINTS = ("fps", "nframes", "min_frames", "max_frames", "min_pixels", "max_pixels", "total_pixels")

PLACE = "where a medium stands in its turn, which LLaVA moves to the front"
TAGS = "how often <image> or <video> are text, which LLaVA takes for places of media"
SCENE_BYTES = "the bytes of timelines of scenes, whose media are named by path"
HINTS = "sampling that a video asks for (fps, max_pixels …), which config.data decides"
SCENES = "timelines of scenes, which only FiLax reads in messages"
FOLDERS = "folders of pictures, which are named by path"
KEYS = "further keys with values that JSON cannot hold, such as dates"
TURNS = "a question or an answer that was made from a caption or from times"


@dataclasses.dataclass
class Reformatted:
  """The result: report.bad lists the omitted records, lost what others lack."""

  records: int = 0
  report: ManifestReport = dataclasses.field(default_factory=ManifestReport)
  lost: Counter[str] = dataclasses.field(default_factory=Counter)


def reformat_manifest(
  manifest: str | os.PathLike,
  out: str | os.PathLike,
  *,
  shape: str = "",
  root: str | os.PathLike = "",
  content: bool = False,
  force: bool = False,
  progress: TextIO | None = None,
) -> Reformatted:
  """Writes the good records of a manifest to `out`.

  The suffix of `out` decides the kind of file.

  shape: "llava" or "messages". With "", a record keeps its own shape if it is one of these, and
    gets "llava" otherwise.
  root: the folder of the media. If it is set, the names of media stay as they are.
  content: whether a Parquet file stores the bytes of media; a tar always holds them.
  progress: the stream for lines with count and rate; None for none.

  Raises ManifestError for an unusable manifest, ValueError for an impossible `out`.
  """
  manifest = os.fspath(manifest)
  out = os.fspath(out)
  suffix = os.path.splitext(out)[1].lower()
  _check_out(manifest, out, suffix, shape, content, force)
  if not shape and suffix == ".parquet":
    shape = "llava"  # A column has one type.
  result = Reformatted()
  with files.write_atomically(out) as file, WorkProgress("records", out=progress) as work:
    writer = _writer(file, suffix, shape or "llava", content)
    job = _Job(manifest, os.fspath(root), out, shape, content, writer, result)
    for located in located_records(manifest):
      work.count_one()
      try:
        job.add_record(located.record, f"{manifest}:{located.place}")
      except (RecordError, MediaError, ValueError) as error:
        if isinstance(writer, TarWriter):
          writer.drop_record()
        result.report.bad.append(BadRecord(manifest, located.line, str(error), located.nth))
    writer.write_end()  # Also of nothing: a writer of Parquet closes itself later if left open.
    if not result.records:
      raise ValueError(f"The manifest {manifest} has no good record to write.")
  return result


def _check_out(
  manifest: str, out: str, suffix: str, shape: str, content: bool, force: bool
) -> None:
  if suffix not in SUFFIXES:
    raise ValueError(f"{out} ends in none of {' '.join(SUFFIXES)}, which decide what is written.")
  if shape and shape not in SHAPES:
    raise ValueError(f"The shape {shape!r} is not one of {', '.join(SHAPES)}.")
  if content and (suffix != ".parquet" or shape == "messages"):
    raise ValueError(f"Bytes of media go into a .parquet of shape llava, not into {out}.")
  if os.path.exists(out):
    if os.path.samefile(manifest, out):
      raise ValueError(f"{out} is the manifest that is read. Name another file.")
    if not force:
      raise ValueError(f"{out} exists. Name another file, or replace it with --force.")


def _writer(file: BinaryIO, suffix: str, shape: str, content: bool) -> RecordWriter:
  if suffix == ".parquet":
    return ParquetWriter(file, shape, content)
  if suffix == ".tar":
    return TarWriter(file)
  return JsonWriter(file, lines=suffix == ".jsonl")


@dataclasses.dataclass
class _Job:
  """One manifest on its way into another."""

  manifest: str
  root: str
  out: str
  shape: str
  content: bool
  writer: RecordWriter
  result: Reformatted

  def add_record(self, record: Any, origin: str) -> None:
    """Writes a record. Raises RecordError or MediaError without having written it."""
    folder = self.root or os.path.dirname(self.manifest)
    sample = llava.parse_record(record, origin, folder)
    shape = self.shape or ("messages" if "messages" in record else "llava")
    written = SHAPES[shape](sample, self._renaming(sample))
    lost = set(_lost(record, sample, shape, self._kept_in_place(sample)))
    lost |= self._lost_by_reading(sample, shape)
    if self.content and "scenes" in written:
      lost.add(SCENE_BYTES)
    self.writer.add_record(written, _extra(record))
    self.result.lost.update(lost)
    self.result.records += 1
    self.result.report.samples += 1

  def _lost_by_reading(self, sample: Sample, shape: str) -> set[str]:
    """What differs when the record is read back.

    RecordError for other media or turns.
    """
    copy = SHAPES[shape](sample, str)
    if isinstance(self.writer, ParquetWriter) and shape == "llava":
      copy = dict.fromkeys(llava.MEDIA) | copy  # A table has all columns.
    try:
      again = llava.parse_record(copy, sample.origin)
    except RecordError as error:
      raise RecordError(f"cannot be written as {shape}: read again, it {error}") from error
    texts = [(turn.role, turn.text.split()) for turn in again.turns]
    if again.media != sample.media or len(again.turns) != len(sample.turns):
      raise RecordError(f"cannot be written as {shape}: <image> or <video> are part of its text")
    if again.turns == sample.turns:
      return set()
    before = [(turn.role, turn.text.split()) for turn in sample.turns]
    return {PLACE if texts == before else TAGS}

  def _kept_in_place(self, sample: Sample) -> bool:
    """Whether a packed output has to name a folder of pictures."""
    packs = self.content or isinstance(self.writer, TarWriter)
    media = {scene.media for timeline in sample.media for scene in timeline}
    return packs and any(map(os.path.isdir, media))

  def _renaming(self, sample: Sample) -> Rename:
    """The names of media in the output."""

    def renamed(media: str) -> str:
      if os.path.isdir(media):
        name = self._name(media)
        if isinstance(self.writer, ParquetWriter):
          self.writer.folders.add(name)
        return name
      if isinstance(self.writer, TarWriter):
        return self.writer.member(media)
      if self.content and isinstance(self.writer, ParquetWriter):
        self.writer.names[media] = self._name(media)
        return media
      return self._name(media)

    return renamed

  def _name(self, media: str) -> str:
    """A medium's name from the output's folder, or from `root`."""
    if "://" in media:
      return media
    if self.root:
      inside = os.path.relpath(media, self.root)
      return media if inside.startswith("..") else inside
    folder = os.path.dirname(os.path.abspath(self.out))
    path = os.path.abspath(media)
    inside = os.path.relpath(path, folder)
    return path if inside.startswith("..") else inside


def _extra(record: Mapping[str, Any]) -> dict[str, Any]:
  """The keys of a record that a sample does not hold.

  Raises RecordError for a text that no file of UTF-8 can hold.
  """
  extra = {}
  if isinstance(record.get(EXTRA), str):  # From a Parquet file that this tool wrote.
    try:
      stored = json.loads(record[EXTRA])
    except ValueError:
      stored = None
    if isinstance(stored, dict):
      extra.update(stored)
  for key, value in record.items():
    if key not in _HELD and value is not None and _is_json(value):
      extra[key] = value
  for key, value in extra.items():
    check_text(json.dumps({key: value}, ensure_ascii=False), excerpt(key))
  return extra


def _is_json(value: Any) -> bool:
  try:
    json.dumps(value)
  except (TypeError, ValueError):
    return False
  return True


def _lost(record: Mapping[str, Any], sample: Sample, shape: str, folders: bool) -> Iterator[str]:
  """What the output cannot hold of a record."""
  if any(_has_hint(part) for part in _parts(record)):
    yield HINTS
  if shape == "messages" and any(len(timeline) > 1 for timeline in sample.media):
    yield SCENES
  if folders:
    yield FOLDERS
  if any(key not in _HELD and not _is_json(value) for key, value in record.items()):
    yield KEYS
  if "conversations" not in record and "messages" not in record:
    if not any(record.get(key) for key in ("response", "answer", "a", "QA", "solution")):
      yield TURNS


def _has_hint(part: Any) -> bool:
  return isinstance(part, Mapping) and any(part.get(key) is not None for key in _HINTS)


def _parts(record: Mapping[str, Any]) -> Iterator[Any]:
  for key in ("videos", "images"):
    if isinstance(record.get(key), list):
      yield from record[key]
  for message in record.get("messages") or ():
    if isinstance(message, Mapping) and isinstance(message.get("content"), list):
      yield from message["content"]
