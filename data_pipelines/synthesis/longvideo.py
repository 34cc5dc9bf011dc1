# SPDX-License-Identifier: Apache-2.0
"""Makes a data set of long videos from captioned clips (FiLA-Video §3.3).

Nothing is encoded again: a long video is a timeline of clips, and its caption is theirs, scene by
scene, with times. The bytes depend on the inputs and options alone.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import os
import pathlib
import shutil
import string
from typing import Any

import numpy as np

from data_pipelines.chunk_pool import default_processes
from data_pipelines.manifest.report import BadRecord
from data_pipelines.synthesis import caption_templates, longvideo_figures, splits
from data_pipelines.synthesis.caption_reader import ReadingRules
from data_pipelines.synthesis.clip_table import (
  PROBE,
  ClipTable,
  LengthRules,
  ReadClips,
  read_clips,
)
from data_pipelines.synthesis.longvideo_plan import (
  Candidates,
  PlannedVideos,
  VideoRules,
  plan_videos,
)
from data_pipelines.synthesis.longvideo_records import PlacedChunks, VideoWriter
from data_pipelines.synthesis.shards import (
  OutputFolder,
  input_facts,
  open_output,
  shard_names,
  write_shards,
)
from filax import files

HELD_OUT_FILE = "held_out.jsonl"
HELD_OUT_MEDIA = "held_out_media.jsonl"
BAD = "bad.txt"
_SHARD = 2500  # Videos.
_PROBES = "index.sqlite"
_TERMS = (
  "Those of the captions and of the videos. LLaVA-Video-178K: academic research, and the terms of "
  "the model that wrote its captions."
)


@dataclasses.dataclass(frozen=True)
class LongVideoOptions:
  """What to make. The defaults are the published figures."""

  count: int = 40_000
  rules: VideoRules = dataclasses.field(default_factory=VideoRules)
  reading: ReadingRules = dataclasses.field(default_factory=ReadingRules)
  lengths: LengthRules = dataclasses.field(default_factory=LengthRules)
  captions: str = "seconds"  # One of caption_templates.CAPTIONS.
  exclude: tuple[str, ...] = ()  # Files of ids (see splits.read_id_list).

  def recipe(self, captions: Sequence[str]) -> dict[str, Any]:
    """What decides the bytes, for JSON."""
    durations: Any = self.lengths.durations
    if durations not in ("", PROBE):
      durations = input_facts([durations])
    return {
      "kind": "longvideo",
      "templates": caption_templates.VERSION,
      "inputs": input_facts(captions),
      "exclude": input_facts(self.exclude),
      "durations": durations,
      "count": self.count,
      "videos": dataclasses.asdict(self.rules),
      "shortest_clip": self.lengths.shortest,
      "root": self.reading.root,
      "media": self.reading.media,
      "openers": self.reading.openers,
      "held_out": self.reading.held_out,
      "captions": self.captions,
      "seed": self.rules.seed,
      "terms": _TERMS,
    }


@dataclasses.dataclass
class LongVideoResult:
  """What was made."""

  out: pathlib.Path
  was_complete: bool = False  # Whether nothing was left to do.
  figures: dict[str, Any] = dataclasses.field(default_factory=dict)
  bad: list[BadRecord] = dataclasses.field(default_factory=list)
  manifests: list[str] = dataclasses.field(default_factory=list)  # Manifests of the training split.


@dataclasses.dataclass
class SplitPlan:
  """The long videos of a split, and the rows of its clips."""

  name: str
  prefix: str  # The beginning of all ids.
  rows: np.ndarray
  videos: PlannedVideos


def synthesize(
  captions: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  options: LongVideoOptions,
  *,
  force: bool = False,
  processes: int | None = None,
) -> LongVideoResult:
  """Writes long videos to the folder `out`.

  captions: files of captioned clips. Raises ValueError for unusable inputs or options, and for a
  folder that holds anything else.
  """
  paths = sorted(os.fspath(path) for path in captions)
  processes = processes or default_processes()
  _check_options(options)
  with open_output(out, _readable(options.recipe, paths), force) as output:
    if output.is_complete:
      names = [name for name in output.finished if name.startswith(splits.TRAIN)]
      return LongVideoResult(output.path, was_complete=True, manifests=sorted(names))
    spools = files.temporary_name(output.path / "captions")
    spools.mkdir()
    try:
      return _write(output, paths, options, spools, processes)
    finally:
      shutil.rmtree(spools, ignore_errors=True)


def _readable(recipe, paths: Sequence[str]) -> dict[str, Any]:
  try:
    return recipe(paths)
  except OSError as error:
    raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _check_options(options: LongVideoOptions) -> None:
  rules = options.rules
  if options.captions not in caption_templates.CAPTIONS:
    raise ValueError(f"captions={options.captions!r} is none of {caption_templates.CAPTIONS}.")
  if options.reading.openers not in caption_templates.OPENERS:
    raise ValueError(f"openers={options.reading.openers!r} is none of {caption_templates.OPENERS}.")
  if not 0 <= options.reading.held_out < 1:
    raise ValueError(f"--held-out {options.reading.held_out:.0%} leaves nothing to train on.")
  if rules.min_scene_share == 1:
    raise ValueError(
      "--min-scene-share 1 is not a number of frames. Set it to 0, or to 2 and more."
    )
  if 1 < rules.min_scene_share <= rules.min_scenes:
    raise ValueError(
      f"--min-scene-share {rules.min_scene_share} frames cannot show --min-scenes "
      f"{rules.min_scenes}. Set it to {rules.min_scenes + 1} or more."
    )
  if not _has_plain_fields(options.reading.media):
    raise ValueError(
      f"--media {options.reading.media!r} cannot be filled in. Use {{data_source}} and {{video}}."
    )


def _has_plain_fields(template: str) -> bool:
  """Whether a template has only the two fields, as they are."""
  try:
    pieces = list(string.Formatter().parse(template))
  except ValueError:  # A brace without its partner.
    return False
  for _, field, form, conversion in pieces:
    if field is not None and (field not in ("data_source", "video") or form or conversion):
      return False
  return True


def _write(
  output: OutputFolder,
  paths: Sequence[str],
  options: LongVideoOptions,
  spools: pathlib.Path,
  processes: int,
) -> LongVideoResult:
  excluded: frozenset[str] = frozenset()
  for path in options.exclude:
    excluded |= splits.read_id_list(path)
  reading = dataclasses.replace(options.reading, seed=options.rules.seed, excluded=excluded)
  lengths = dataclasses.replace(
    options.lengths, longest=options.rules.high, probes=str(output.path / _PROBES)
  )
  clips = read_clips(paths, reading, lengths, spools, processes)
  _write_bad(output.path / BAD, clips.bad)
  output.pin(clips=clips.table.plan_digest())
  train = _plan_split(clips.table, options, splits.TRAIN)
  held_out = _plan_split(clips.table, options, splits.HELD_OUT)
  _check_count(train, clips, options)
  names = shard_names(splits.TRAIN, max(1, round(len(train.videos) / _SHARD)))
  shards = {}
  for number, name in enumerate(names):
    first = number * len(train.videos) // len(names)
    stop = (number + 1) * len(train.videos) // len(names)
    shards[name] = _chunks(clips.table, train, range(first, stop))
  shards[HELD_OUT_FILE] = _chunks(clips.table, held_out, range(len(held_out.videos)))
  writer = VideoWriter(clips.table.spools, options.captions, options.rules.seed)
  figures = longvideo_figures.measure_videos(clips, train.rows, train.videos, options.count)
  figures["held_out"] = {"clips": len(held_out.rows), "videos": len(held_out.videos)}
  with ThreadPoolExecutor(1) as drawing:  # Meanwhile other processes write the shards.
    drawn = drawing.submit(
      longvideo_figures.write_charts,
      output.path / "figures",
      figures,
      clips.table,
      train.rows,
      train.videos,
    )
    write_shards(output, shards, writer, processes)
    drawn.result()
  _write_held_out_media(output.path / HELD_OUT_MEDIA, clips.table, held_out, reading.root)
  clips.table.close_spools()
  output.mark_complete(sources=clips.sources, figures=figures)
  return LongVideoResult(output.path, figures=figures, bad=clips.bad, manifests=names)


def _plan_split(table: ClipTable, options: LongVideoOptions, split: str) -> SplitPlan:
  """Plans a split with its own deck.

  The held-out one has its share of the count.
  """
  columns = table.columns
  is_held_out = split == splits.HELD_OUT
  rows = np.flatnonzero(columns["held_out"] == is_held_out)
  candidates = Candidates(
    clip=columns["clip"][rows],
    key=columns["key"][rows],
    milliseconds=columns["milliseconds"][rows],
    words=columns["words"][rows],
  )
  count = options.count
  if is_held_out:
    count = round(options.count * options.reading.held_out)
  videos = plan_videos(candidates, count, split, options.rules)
  return SplitPlan(split, "held-" if is_held_out else "", rows, videos)


def _check_count(train: SplitPlan, clips: ReadClips, options: LongVideoOptions) -> None:
  """Raises ValueError if no video came about."""
  if len(train.videos):
    return
  seconds = clips.table.columns["milliseconds"][train.rows].sum() / 1000
  first = f" The first of {len(clips.bad)} bad records: {clips.bad[0]}" if clips.bad else ""
  raise ValueError(
    f"{len(train.rows)} usable clips of {seconds:.0f} seconds make no video of "
    f"{options.rules.low:g} seconds and {options.rules.min_scenes} scenes from different sources. "
    f"Set --minutes, --min-scenes, --max-words or --min-scene-share lower.{first}"
  )


def _chunks(table: ClipTable, plan: SplitPlan, videos: range) -> PlacedChunks:
  return PlacedChunks(table, plan.videos, plan.rows, plan.prefix, videos)


def _write_bad(path: pathlib.Path, bad: Sequence[BadRecord]) -> None:
  with files.write_atomically(path) as file:
    for record in bad:
      file.write(f"{record}\n".encode("utf-8", "backslashreplace"))


def _write_held_out_media(
  path: pathlib.Path, table: ClipTable, held_out: SplitPlan, root: str
) -> None:
  """Writes all held-out media, used or not, for config.data.exclude."""
  media = set()
  for row in held_out.rows.tolist():
    media.add(os.path.join(root, table.clip(row).path))
  splits.write_held_out_list(path, sorted(media))
