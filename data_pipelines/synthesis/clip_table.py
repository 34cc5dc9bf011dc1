# SPDX-License-Identifier: Apache-2.0
"""The captioned clips of several files.

The numbers are columns in memory; the texts are in a file, the spool.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import os
import pathlib
import sys
from typing import BinaryIO

import numpy as np

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.manifest.excerpts import one_line
from data_pipelines.manifest.reader import BadRecord, RecordError
from data_pipelines.media.index import MediaIndex
from data_pipelines.synthesis.caption_reader import (
  COLUMNS,
  CaptionFile,
  CaptionReader,
  Clip,
  ReadingRules,
  length_in_milliseconds,
  spooled_clip,
)
from data_pipelines.synthesis.durations import read_durations

PROBE = "probe"
MOST_COPIES = 3  # A captioner's error text may be the caption of thousands of clips.


class ClipTable:
  """Clips in an order that no order of files decides."""

  def __init__(self, columns: Mapping[str, np.ndarray], spools: Sequence[str]):
    self.columns = columns
    self.spools = spools
    self._files: dict[int, BinaryIO] = {}

  def __len__(self) -> int:
    return len(self.columns["clip"])

  def clip(self, number: int) -> Clip:
    """The text of a clip."""
    spool = int(self.columns["file"][number])
    start = int(self.columns["start"][number])
    size = int(self.columns["size"][number])
    if spool not in self._files:
      self._files[spool] = open(self.spools[spool], "rb")
    return spooled_clip(os.pread(self._files[spool].fileno(), size, start))

  def plan_digest(self) -> str:
    """The sha256 of what decides plans: clips, lengths and splits."""
    digest = hashlib.sha256()
    for name in ("key", "clip", "milliseconds", "held_out"):
      digest.update(np.ascontiguousarray(self.columns[name]).tobytes())
    return digest.hexdigest()

  def close_spools(self) -> None:
    """Closes the spools."""
    for file in self._files.values():
      file.close()
    self._files = {}


@dataclasses.dataclass
class ReadClips:
  """What reading caption files gave."""

  table: ClipTable
  sources: dict[str, int]  # Data source -> clips.
  bad: list[BadRecord]
  excluded: int


@dataclasses.dataclass(frozen=True)
class LengthRules:
  """The lengths of clips, in seconds, and where unknown ones come from."""

  durations: str = ""  # PROBE, a .jsonl of {"media", "duration"}, or an index.sqlite.
  shortest: float = 2.0
  longest: float = 1800.0
  probes: str = ""  # Where probed lengths are kept.


def read_clips(
  files: Sequence[str],
  rules: ReadingRules,
  lengths: LengthRules,
  folder: pathlib.Path,
  processes: int,
) -> ReadClips:
  """Reads caption files; spools go to `folder`.

  Raises ValueError for an unusable file, and if none of the media are where they should be.
  """
  durations: Mapping[str, float] = {}
  if lengths.durations not in ("", PROBE):
    durations = read_durations(lengths.durations, rules.root)
  jobs = []
  for number, path in enumerate(files):
    jobs.append((path, str(folder / f"captions-{number}")))
  columns: dict[str, list[np.ndarray]] = {name: [] for name in (*COLUMNS, "file")}
  result = ReadClips(ClipTable({}, []), {}, [], 0)
  numbers: dict[str, int] = {}  # Data source -> its number.
  for number, part in enumerate(_read_files(jobs, CaptionReader(rules, durations), processes)):
    result.bad += part.bad
    result.excluded += part.excluded
    sources = [numbers.setdefault(name, len(numbers)) for name in part.sources]
    part.columns["source"] = np.array(sources, np.uint32)[part.columns["source"]]
    for name in COLUMNS:
      columns[name].append(part.columns[name])
    columns["file"].append(np.full(len(part.columns["clip"]), number, np.int32))
  joined = {name: np.concatenate(parts) for name, parts in columns.items()}
  # By source, then clip; of equal clips the first of the first file is kept.
  order = np.lexsort((joined["line"], joined["file"], joined["clip"], joined["key"]))
  spools = [spool for _, spool in jobs]
  table = ClipTable(_rows(joined, order), spools)
  filters = _Filters(table, files, result.bad)
  filters.drop_repeated()
  filters.drop_missing(rules)
  filters.drop_by_length(rules.root, lengths, processes)
  kept = np.flatnonzero(filters.good)
  result.table = ClipTable(_rows(table.columns, kept), spools)
  table.close_spools()
  clips_of_source = np.bincount(result.table.columns["source"], minlength=len(numbers))
  for name, number in sorted(numbers.items()):
    result.sources[name] = int(clips_of_source[number])
  result.bad.sort(key=_place)
  return result


def _read_files(
  jobs: Sequence[tuple[str, str]], reader: CaptionReader, processes: int
) -> list[CaptionFile]:
  """Reads the files of (file, spool) jobs, the largest first.

  The results are in the order of the jobs.
  """
  sizes = [os.path.getsize(path) for path, _ in jobs]
  order = np.argsort(sizes)[::-1].tolist()
  parts: dict[int, CaptionFile] = {}
  with ChunkPool(reader, min(processes, len(jobs))) as pool:
    results = pool.map([jobs[number] for number in order])
    for number, part in zip(order, results, strict=True):
      parts[number] = part
  return [parts[number] for number in range(len(jobs))]


def _rows(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
  return {name: column[rows] for name, column in columns.items()}


def _place(bad: BadRecord) -> tuple[str, int]:
  return bad.manifest, bad.line


class _Filters:
  """Drops rows of a table, each with a reason."""

  def __init__(self, table: ClipTable, files: Sequence[str], bad: list[BadRecord]):
    self.table = table
    self.good = np.ones(len(table), bool)
    self._files = files
    self._bad = bad

  def drop_repeated(self) -> None:
    """Drops clips listed twice, and captions of too many clips."""
    clip = self.table.columns["clip"]
    repeated = np.zeros(len(clip), bool)
    repeated[1:] = clip[1:] == clip[:-1]
    self._drop(repeated, "is a clip that another record has with the same caption")
    captions = np.where(self.good)[0]
    values = self.table.columns["caption"][captions]
    order = np.argsort(values, kind="stable")
    _, firsts, counts = np.unique(values[order], return_index=True, return_counts=True)
    ranks = np.arange(len(order)) - np.repeat(firsts, counts)
    surplus = np.zeros(len(clip), bool)
    surplus[captions[order[ranks >= MOST_COPIES]]] = True
    self._drop(surplus, f"has a caption that {MOST_COPIES} other clips have as well")

  def drop_missing(self, rules: ReadingRules) -> None:
    """Drops clips without a file. Raises ValueError if all are."""
    missing = self.table.columns["missing"] & self.good
    if missing.any() and missing.sum() == self.good.sum():
      path = os.path.join(rules.root, self.table.clip(int(np.argmax(missing))).path)
      raise ValueError(
        f"None of the {missing.sum()} media is there, such as {one_line(path)}. Set --root to the "
        f"folder of the media and --media to their paths in it ({rules.media}), or leave out "
        "--root to plan without the media."
      )
    self._drop(missing, "has its medium missing under --root")

  def drop_by_length(self, root: str, lengths: LengthRules, processes: int) -> None:
    """Measures unknown lengths, and drops what is too short or long."""
    milliseconds = self.table.columns["milliseconds"]
    unknown = np.flatnonzero((milliseconds < 0) & self.good)
    if len(unknown) and lengths.durations == PROBE:
      self._measure(unknown, root, lengths, processes)
    self._drop(milliseconds < 0, "has no duration; add --durations probe, or a file of durations")
    self._drop(
      milliseconds < lengths.shortest * 1000, f"lasts less than {lengths.shortest:g} seconds"
    )
    self._drop(
      milliseconds > lengths.longest * 1000, f"lasts more than {lengths.longest:g} seconds"
    )

  def _measure(self, rows: np.ndarray, root: str, lengths: LengthRules, processes: int) -> None:
    """Probes the media of rows; unreadable ones are dropped."""
    milliseconds = self.table.columns["milliseconds"]
    clips = [self.table.clip(int(row)) for row in rows]
    names = [os.path.join(root, clip.path) for clip in clips]
    index = MediaIndex(lengths.probes, threads=2 * processes, progress=sys.stderr)
    probes = index.probes(names)
    for row, clip, name in zip(rows, clips, names, strict=True):
      facts = probes[name]
      try:
        if facts.error:
          raise RecordError(facts.error)
        milliseconds[row] = length_in_milliseconds(round(float(clip.start) * 1000), facts.duration)
      except RecordError as error:
        self._drop_row(int(row), str(error))

  def _drop(self, rows: np.ndarray, reason: str) -> None:
    for row in np.flatnonzero(rows & self.good):
      self._drop_row(int(row), reason)

  def _drop_row(self, row: int, reason: str) -> None:
    self.good[row] = False
    path = self._files[int(self.table.columns["file"][row])]
    self._bad.append(BadRecord(path, int(self.table.columns["line"][row]), reason))
