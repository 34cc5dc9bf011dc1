# SPDX-License-Identifier: Apache-2.0
"""Verifies the output of a recipe, or any manifest of questions.

Records are read file by file in several processes; tracks stay on disk. What is kept of a record is
a digest of its id and, once each, the source video.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any, TextIO

import numpy as np

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.manifest.reader import manifest_records
from data_pipelines.synthesis.splits import HELD_OUT, TRAIN, read_id_list
from data_pipelines.synthesis.verify.asked import media_key
from data_pipelines.synthesis.verify.blind_pool import BlindPool
from data_pipelines.synthesis.verify.long_videos import LongVideoSums, check_averages
from data_pipelines.synthesis.verify.shard_checks import ShardChecker, ShardResult, id_digest
from data_pipelines.synthesis.verify.track_index import TrackIndex
from data_pipelines.synthesis.verify.verdicts import Verdicts
from filax.progress import WorkProgress

RECIPE = "recipe.json"
TRACKS = "tracks*.jsonl"
HELD_OUT_MEDIA = "held_out_media.jsonl"
# Recipes whose haystacks may lie anywhere and whose letters are drawn.
_FREE_KINDS = ("needles",)
BLIND_QUESTIONS = 10_000  # Attacked of each task and source: 3 sigma are 1.3 points.


@dataclasses.dataclass
class VerifyResult:
  """What was checked, and what was found."""

  path: str
  verdicts: Verdicts = dataclasses.field(default_factory=Verdicts)
  records: int = 0
  questions: int = 0
  tracks: int = 0
  tasks: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
  videos: Counter[str] = dataclasses.field(default_factory=Counter)  # Source videos by split.
  averages: dict[str, float] = dataclasses.field(default_factory=dict)  # Averages of joined videos.
  pool: BlindPool | None = None

  @property
  def is_good(self) -> bool:
    """Whether no check failed."""
    return not self.verdicts.failed

  def as_dict(self) -> dict[str, Any]:
    """The result for JSON."""
    tasks = [
      dict(task=task, source=source, questions=count)
      for (task, source), count in sorted(self.tasks.items())
    ]
    return dict(
      path=self.path,
      good=self.is_good,
      records=self.records,
      questions=self.questions,
      tracks=self.tracks,
      tasks=tasks,
      videos=dict(self.videos),
      averages=self.averages,
      checks=self.verdicts.by_check(),
    )

  def lines(self) -> Iterator[str]:
    """The result as text."""
    videos = ", ".join(f"{count} in {split}" for split, count in sorted(self.videos.items()))
    yield (
      f"{self.path}: {self.records} records, {self.questions} questions, {self.tracks} tracks; "
      f"source videos: {videos or 'none'}"
    )
    for (task, source), count in sorted(self.tasks.items()):
      yield f"  {task or 'without a task':<20} {source or '-':<20} {count:>10}"
    for name, average in self.averages.items():
      yield f"  {name:<20} {average:>31.6g}"
    yield f"{'check':<16} {'made':>10}"
    yield from self.verdicts.check_lines()


def verify(
  path: str | os.PathLike,
  *,
  tracks: Sequence[str | os.PathLike] = (),
  exclude: Iterable[str | os.PathLike] = (),
  blind: int = 0,
  processes: int = 1,
  progress: TextIO | None = None,
) -> VerifyResult:
  """Verifies a folder with recipe.json, or a manifest.

  tracks: files of the annotation; by default tracks*.jsonl of the folder. exclude: lists of videos
  that must not occur. blind: how many questions of each task and source the result holds for
  attacks. progress: the stream for lines with count and rate; None for none. Raises ValueError for
  a path without records.
  """
  path = pathlib.Path(path)
  result = VerifyResult(os.fspath(path))
  content = _read_recipe(path) if path.is_dir() else {}
  shards = _shards(path, content)
  index = _track_index(path, tracks, result.verdicts)
  result.tracks = 0 if index is None else len(index)
  is_strict = bool(content) and _kind(content) not in _FREE_KINDS
  checker = ShardChecker(index, bool(content), is_strict, blind)
  shard_results = []
  with (
    ChunkPool(checker, min(processes, len(shards))) as pool,
    WorkProgress("files", len(shards), progress) as work,
  ):
    for shard in pool.map(list(map(os.fspath, shards))):
      shard_results.append(shard)
      work.count_one()
  keys: dict[str, set[str]] = {}
  sums = LongVideoSums()
  if blind:
    result.pool = BlindPool(blind)
  for shard in shard_results:
    _add_shard(shard, result, keys, sums)
  if content:
    _check_recipe(content, path, shard_results, result.verdicts)
    result.averages = check_averages(sums, content, result.verdicts)
  _check_ids(shards, shard_results, result.verdicts)
  _check_splits(path, keys, exclude, result.verdicts)
  result.videos = Counter({split: len(videos) for split, videos in keys.items()})
  return result


def _read_recipe(path: pathlib.Path) -> dict[str, Any]:
  """recipe.json of a folder. Raises ValueError without one."""
  try:
    content = json.loads((path / RECIPE).read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise ValueError(
      f"{path} has no {RECIPE}. Name the output of filax data longvid, synthesize or needles, or a "
      "manifest."
    ) from None
  except (OSError, ValueError) as error:
    raise ValueError(f"{path / RECIPE} cannot be read: {error}.") from error
  if not isinstance(content, dict) or not content.get("shards"):
    raise ValueError(f"{path / RECIPE} names no shards: the output is not finished. Run it again.")
  return content


def _kind(content: Mapping[str, Any]) -> str:
  recipe = content.get("recipe")
  return str(recipe.get("kind", "")) if isinstance(recipe, Mapping) else ""


def _shards(path: pathlib.Path, content: Mapping[str, Any]) -> list[pathlib.Path]:
  """The files of records that recipe.json names, inside the folder."""
  if not path.is_dir():
    return [path]
  names = [name for name in sorted(content["shards"]) if name == pathlib.PurePath(name).name]
  shards = []
  for name in names:
    file = path / name
    is_records = name.endswith(".jsonl") and not file.match(TRACKS) and name != HELD_OUT_MEDIA
    if is_records and file.exists() and file.stat().st_size:
      shards.append(file)
  if not shards:
    raise ValueError(f"{path} holds none of the shards that its {RECIPE} names.")
  return shards


def _track_index(
  path: pathlib.Path, tracks: Sequence[str | os.PathLike], verdicts: Verdicts
) -> TrackIndex | None:
  paths = list(map(pathlib.Path, tracks))
  if not paths and path.is_dir():
    paths = sorted(path.glob(TRACKS))
  for name in paths:
    if not name.is_file():
      raise ValueError(f"The tracks {name} are not a file.")
  return TrackIndex(paths, verdicts) if paths else None


def _add_shard(
  shard: ShardResult, result: VerifyResult, keys: dict[str, set[str]], sums: LongVideoSums
) -> None:
  split = split_of_file(shard.name)
  result.verdicts.add(shard.verdicts)
  result.records += shard.records
  result.questions += shard.questions
  result.tasks += shard.tasks
  keys.setdefault(split, set()).update(shard.keys)
  if split == TRAIN:
    sums.add_sums(shard.sums)
  if shard.pool is not None and result.pool is not None:
    result.pool.merge(shard.pool)


def split_of_file(name: str) -> str:
  """The split that a file's name begins with."""
  return HELD_OUT if name.startswith((HELD_OUT, "heldout", "test", "val")) else TRAIN


def _check_recipe(
  content: Mapping[str, Any],
  path: pathlib.Path,
  shards: Sequence[ShardResult],
  verdicts: Verdicts,
) -> None:
  """Files have the sha256, size and records that recipe.json states."""
  verdicts.at(RECIPE)
  verdicts.expect("recipe", content.get("complete"), "the output is not complete")
  read = {shard.name: shard for shard in shards}
  for name, facts in content["shards"].items():
    verdicts.at(name)
    if name not in read:
      is_there = (path / name).exists()
      verdicts.expect("recipe", is_there, "the shard is missing")
      continue
    shard = read[name]
    for stated, counted in (("records", shard.records), ("bytes", shard.size)):
      reason = f"{{}} {stated}, and recipe.json states {{}}"
      verdicts.expect("recipe", counted == facts.get(stated), reason, counted, facts.get(stated))
    is_same = shard.sha256 == facts.get("sha256")
    verdicts.expect("recipe", is_same, "the sha256 is not that of recipe.json")
  for file in sorted(path.glob("*.jsonl")):
    is_other = file.match(TRACKS) or file.name == HELD_OUT_MEDIA
    if not is_other and file.name not in content["shards"]:
      verdicts.at(file.name)
      verdicts.expect("recipe", False, "recipe.json does not name this file")


def _check_ids(
  paths: Sequence[pathlib.Path], shards: Sequence[ShardResult], verdicts: Verdicts
) -> None:
  """Checks that ids are unique over all files.

  The files are read again only for the names of repeated ones.
  """
  digests = np.concatenate([shard.ids for shard in shards if shard.ids is not None])
  distinct, counts = np.unique(digests, return_counts=True)
  verdicts.made["unique_id"] += len(distinct)
  repeated = set(distinct[counts > 1].tolist())
  if not repeated:
    return
  seen: set[int] = set()
  for path in paths:
    for line, record in manifest_records(path):
      name = str(record.get("id", "")) if isinstance(record, Mapping) else ""
      digest = id_digest(name)
      if name and digest in repeated:
        verdicts.at(path.name, line, name)
        verdicts.made["unique_id"] -= digest not in seen
        verdicts.expect("unique_id", digest not in seen, "the id occurs before")
        seen.add(digest)


def _check_splits(
  path: pathlib.Path,
  keys: Mapping[str, set[str]],
  exclude: Iterable[str | os.PathLike],
  verdicts: Verdicts,
) -> None:
  """Checks source videos across splits, held-out media and exclusions."""
  train = keys.get(TRAIN, set()) - {""}
  held_out = keys.get(HELD_OUT, set()) - {""}
  verdicts.at(os.fspath(path))
  if held_out:
    both = sorted(train & held_out)
    reason = "{} source videos are in training and held out: {}"
    verdicts.expect("split", not both, reason, len(both), both[:5])
  listed = path / HELD_OUT_MEDIA
  if path.is_dir() and listed.is_file() and listed.stat().st_size:
    held_media = set()
    for line, row in manifest_records(listed):
      if isinstance(row, Mapping):
        held_media.add(media_key(str(row.get("media"))))
        continue
      verdicts.at(listed.name, line)
      verdicts.expect("format", False, "is not an entry of a list of media: {}", str(row))
    verdicts.at(os.fspath(path))
    both = sorted(train & held_media)
    reason = "{} held-out media are of videos in training: {}"
    verdicts.expect("split", not both, reason, len(both), both[:5])
  for name in exclude:
    excluded = read_id_list(name)
    present = sorted(excluded & (train | held_out))
    reason = "{} videos of the list {} occur: {}"
    values = (len(present), os.path.basename(name), present[:5])
    verdicts.expect("excluded", not present, reason, *values)
