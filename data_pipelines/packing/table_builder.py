# SPDX-License-Identifier: Apache-2.0
"""Builds the columns of a corpus from its manifests, chunk by chunk."""

import array
from collections.abc import Iterable, Iterator
import dataclasses
import itertools
import os
import pathlib
import time
from typing import Any, BinaryIO

import numpy as np

from data_pipelines.chunk_pool import ChunkPool, default_processes
from data_pipelines.manifest import llava
from data_pipelines.manifest.reader import record_at, record_places, select_records
from data_pipelines.manifest.report import BadRecord, ManifestReport, RecordError, place_text
from data_pipelines.mapped import range_starts
from data_pipelines.media import remote
from data_pipelines.packing.sample_layout import is_image
from data_pipelines.packing.sample_table import RECORD_COLUMNS, ManifestFile
from data_pipelines.sample import Sample
from filax.progress import ProgressLine

CHUNK = 2000  # Records of a chunk.
_MANY = 8 * CHUNK  # With this many records or more, several processes parse them.

# Where a record stands: its line, its number among the records of this line, its first and last
# byte, and the damage of the record, if any.
Place = tuple[int, int, int, int, RecordError | None]


@dataclasses.dataclass
class ParsedChunk:
  """The good records of a chunk as columns, and a report."""

  line: list[int] = dataclasses.field(default_factory=list)
  nth: list[int] = dataclasses.field(default_factory=list)
  start: list[int] = dataclasses.field(default_factory=list)
  stop: list[int] = dataclasses.field(default_factory=list)
  media: list[tuple[int, ...]] = dataclasses.field(default_factory=list)  # Indices into `names`.
  names: list[str] = dataclasses.field(default_factory=list)  # Media, in order of first use.
  report: ManifestReport = dataclasses.field(default_factory=ManifestReport)
  excluded: int = 0
  videos: bool = False  # Whether a sample shows a video.


@dataclasses.dataclass
class ChunkParser:
  """Parses records of one manifest, chunk by chunk. It can be pickled."""

  manifest: ManifestFile
  exclusions: frozenset[str]

  def __call__(self, places: list[Place]) -> ParsedChunk:
    chunk = ParsedChunk()
    numbers: dict[str, int] = {}
    for place in places:
      self._add_record(chunk, numbers, place)
    chunk.names = list(numbers)
    return chunk

  def _add_record(self, chunk: ParsedChunk, numbers: dict[str, int], place: Place) -> None:
    line, nth, start, stop, damage = place
    path = self.manifest.path
    origin = f"{path}:{place_text(line, nth)}"
    try:
      record = damage or record_at(path, self._file, start, stop)
      sample = llava.parse_record(record, origin, self.manifest.root, chunk.report)
    except (RecordError, RecursionError, ValueError) as error:
      chunk.report.bad.append(BadRecord(path, line, str(error), nth))
      return
    chunk.report.samples += 1
    media = _media(sample)
    is_excluded = not self.exclusions.isdisjoint((sample.origin, *media))
    if is_excluded:
      chunk.excluded += 1
      return
    chunk.line.append(line)
    chunk.nth.append(nth)
    chunk.start.append(start)
    chunk.stop.append(stop)
    media_numbers = [numbers.setdefault(name, len(numbers)) for name in media]
    chunk.media.append(tuple(media_numbers))
    shows_video = not all(map(is_image, sample.media))
    chunk.videos |= shows_video

  @property
  def _file(self) -> BinaryIO:
    """The open manifest, opened at the first use in a process."""
    if not hasattr(self, "_opened"):
      is_json = ".array_record" not in pathlib.PurePath(self.manifest.path).name
      path = remote.local_path(self.manifest.path) if is_json else os.devnull
      self._opened = open(path, "rb")
    return self._opened

  def __getstate__(self) -> dict[str, Any]:
    return dict(manifest=self.manifest, exclusions=self.exclusions)


class TableBuilder:
  """Collects parsed chunks of several manifests."""

  def __init__(self, exclusions: frozenset[str]):
    self.report = ManifestReport()
    self.excluded = 0
    self.videos = False
    self.manifests: list[ManifestFile] = []
    self._exclusions = exclusions
    self._columns: dict[str, list[np.ndarray]] = {name: [] for name in RECORD_COLUMNS}
    self._media_ids: list[np.ndarray] = []
    self._media_counts: list[np.ndarray] = []
    self._names: dict[str, int] = {}
    self._progress = _Progress()

  def add_manifest(self, manifest: ManifestFile, strategy: str, seed: int) -> None:
    """Parses the records that a strategy selects. Raises ManifestError."""
    places = _places(manifest.path)
    if strategy != "all":
      located = _LocatedPlaces(places)
      places = located.chosen(select_records(len(located), strategy, seed))
    number = len(self.manifests)
    self.manifests.append(manifest)
    parser = ChunkParser(manifest, self._exclusions)
    with self._progress.line:
      for chunk in _parsed_chunks(parser, places):
        self._add_chunk(number, chunk)

  def facts(self) -> dict[str, Any]:
    """The report and the counts, for JSON."""
    return dict(report=dataclasses.asdict(self.report), excluded=self.excluded, videos=self.videos)

  def arrays(self) -> dict[str, np.ndarray]:
    """The columns of a SampleTable."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in self._names]
    lengths = np.array([len(name) for name in encoded], np.int64)
    arrays = {name: _joined(parts, np.int64) for name, parts in self._columns.items()}
    arrays["manifest"] = arrays["manifest"].astype(np.uint32)
    arrays["nth"] = arrays["nth"].astype(np.uint32)
    arrays["media_first"] = range_starts(_joined(self._media_counts, np.int64))
    arrays["media_ids"] = _joined(self._media_ids, np.uint32)
    arrays["name_first"] = range_starts(lengths)
    arrays["names"] = np.frombuffer(b"".join(encoded), np.uint8)
    return arrays

  def _add_chunk(self, manifest: int, chunk: ParsedChunk) -> None:
    ids = []
    for name in chunk.names:
      ids.append(self._names.setdefault(name, len(self._names)))
    global_ids = np.array(ids, np.uint32)
    local = np.array(list(itertools.chain.from_iterable(chunk.media)), np.int64)
    self._media_ids.append(global_ids[local] if len(local) else np.zeros(0, np.uint32))
    self._media_counts.append(np.array([len(media) for media in chunk.media], np.int64))
    self._columns["manifest"].append(np.full(len(chunk.line), manifest, np.uint32))
    self._columns["line"].append(np.array(chunk.line, np.int64))
    self._columns["nth"].append(np.array(chunk.nth, np.int64))
    self._columns["start"].append(np.array(chunk.start, np.int64))
    self._columns["stop"].append(np.array(chunk.stop, np.int64))
    self.excluded += chunk.excluded
    self.videos |= chunk.videos
    report = self.report
    report.samples += chunk.report.samples
    report.prepended += chunk.report.prepended
    report.surplus += chunk.report.surplus
    report.dropped_turns += chunk.report.dropped_turns
    for key, count in chunk.report.unread.items():
      report.unread[key] = report.unread.get(key, 0) + count
    report.bad += chunk.report.bad
    self._progress.count_samples(report.samples, len(report.bad))


def _places(path: str) -> Iterator[Place]:
  """The places of a manifest's records."""
  for line, record, start, stop, nth in record_places(path):
    yield line, nth, start, stop, record if isinstance(record, RecordError) else None


class _LocatedPlaces:
  """The places of many records, stored as numbers in one array.

  A list of tuples would take ten times as much memory.
  """

  def __init__(self, places: Iterable[Place]):
    self._numbers = array.array("q")
    self._damages: dict[int, RecordError] = {}
    for number, (*numbers, damage) in enumerate(places):
      self._numbers.extend(numbers)
      if damage is not None:
        self._damages[number] = damage

  def __len__(self) -> int:
    return len(self._numbers) // 4

  def chosen(self, numbers: np.ndarray) -> Iterator[Place]:
    """The places with these numbers."""
    columns = np.frombuffer(self._numbers, np.int64).reshape(-1, 4)
    for number in numbers.tolist():
      line, nth, start, stop = columns[number].tolist()
      yield line, nth, start, stop, self._damages.get(number)


def _parsed_chunks(parser: ChunkParser, places: Iterator[Place]) -> Iterator[ParsedChunk]:
  """Parses records in chunks; if there are many, in several processes."""
  first = list(itertools.islice(places, _MANY))
  processes = default_processes() if len(first) == _MANY else 1
  chunks = _chunks(itertools.chain(first, places))
  with ChunkPool(parser, processes) as pool:
    yield from pool.map(chunks)


def _chunks(places: Iterable[Place]) -> Iterator[list[Place]]:
  remaining = iter(places)
  while chunk := list(itertools.islice(remaining, CHUNK)):
    yield chunk


def _media(sample: Sample) -> list[str]:
  """The distinct media of a sample, in order."""
  media: dict[str, None] = {}
  for timeline in sample.media:
    for scene in timeline:
      media[scene.media] = None
  return list(media)


def _joined(parts: list[np.ndarray], dtype) -> np.ndarray:
  return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


class _Progress:
  """The progress line: samples that were read, and their rate."""

  def __init__(self):
    self._began = time.monotonic()
    self.line = ProgressLine()

  def count_samples(self, samples: int, bad: int) -> None:
    """Shows that this many samples and bad records are read."""
    rate = samples / (time.monotonic() - self._began)
    self.line.show(samples, lambda: f"read {samples} samples, {bad} bad records, {rate:.0f}/s")
