# SPDX-License-Identifier: Apache-2.0
"""Makes a set of questions about long videos from annotated sources.

Three passes: tracks of all sources are written to shards; a guard is fitted to the training split;
the questions of each shard are built and written. An output is a function of the inputs, the recipe
and the answers of the label model.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from typing import Any

from data_pipelines.chunk_pool import ChunkPool
from data_pipelines.synthesis import question_templates, shards, splits
from data_pipelines.synthesis.labels.cache import CachedLabels
from data_pipelines.synthesis.longvid import figures
from data_pipelines.synthesis.longvid.guard import fit_guard
from data_pipelines.synthesis.longvid.question_files import (
  NumberedShard,
  QuestionRules,
  ShardBuilder,
  ShardQuestions,
  held_out_lines,
)
from data_pipelines.synthesis.longvid.rendering import DrawnQuestion, shown_files
from data_pipelines.synthesis.longvid.track_files import (
  Labeller,
  TrackInput,
  common_root,
  folder_below,
  written_tracks,
)
from data_pipelines.synthesis.longvid.track_pass import TrackPass
from data_pipelines.synthesis.sources.track_report import BadRecordLog, TrackReport
from data_pipelines.synthesis.track import Track
from filax import files

GUARD = "guard.json"
HELD_OUT = "held_out.jsonl"
HELD_OUT_MEDIA = "held_out_media.jsonl"
BAD = "bad.txt"
MOST_FITTED = 20_000  # Tracks that the guard is fitted to; more change little.


@dataclasses.dataclass(frozen=True)
class LongVidOptions:
  """What decides the questions, beside the sources and labels."""

  rules: QuestionRules = dataclasses.field(default_factory=QuestionRules)
  per_task: int = 0  # Training questions of each kind; 0: all.
  shards: int = 64
  exclude: tuple[str, ...] = ()  # Files of ids.
  only_tracks: bool = False


@dataclasses.dataclass
class LongVidResult:
  """What was written."""

  out: pathlib.Path
  was_complete: bool
  root: str  # The folder that all media are relative to.
  report: TrackReport
  figures: dict[str, Any]


def write_longvid(
  inputs: Sequence[TrackInput],
  out: str | os.PathLike,
  options: LongVidOptions,
  *,
  labeller: Labeller | None = None,
  label_model: Mapping[str, Any] | None = None,
  processes: int = 1,
  force: bool = False,
) -> LongVidResult:
  """Writes questions, tracks, the held-out set and figures to a folder.

  labeller: None for rules. label_model: what identifies it, for the recipe. Raises ValueError for a
  folder that holds anything else and for sources without a usable track, ManifestError for
  unreadable files.
  """
  report = TrackReport()
  recipe = _recipe(inputs, options, label_model)
  with shards.open_output(out, recipe, force) as output:
    root = common_root(entry.media_root for entry in inputs)
    if output.is_complete:
      return LongVidResult(output.path, True, root, report, _written_figures(output.path))
    output.finished.clear()  # What was counted is not kept: all is written again.
    track_counts = _write_track_shards(output, inputs, options, labeller, report, processes)
    _write_bad(output.path / BAD, report)
    _check_taken(track_counts, report)
    results: dict[str, Any] = dict(tracks=dict(sorted(track_counts.items())))
    if isinstance(labeller, CachedLabels):
      results["label_answers"] = labeller.answers_digest()
      results["label_fallbacks"] = labeller.fallbacks
    if not options.only_tracks:
      results |= _write_questions(output, options, root, processes)
    results["bad_records"] = bad_count(report)
    results["repairs"] = dict(sorted(report.repairs.items()))
    figures.write_figures(results, output.path)
    output.mark_complete(**results)
    return LongVidResult(output.path, False, root, report, results)


def _recipe(
  inputs: Sequence[TrackInput], options: LongVidOptions, label_model: Mapping[str, Any] | None
) -> dict[str, Any]:
  """What decides the bytes."""
  root = common_root(entry.media_root for entry in inputs)
  sources = []
  for entry in inputs:
    facts = dict(
      name=entry.source,
      licence=entry.licence,
      media=folder_below(root, entry.media_root),
      checked=bool(entry.media_root),
      files=shards.input_facts(entry.files),
    )
    sources.append(facts)
  return dict(
    factory="longvid",
    templates=question_templates.VERSION,
    sources=sources,
    exclude=shards.input_facts(options.exclude),
    rules=dataclasses.asdict(options.rules),
    per_task=options.per_task,
    shards=options.shards,
    only_tracks=options.only_tracks,
    label_model=dict(label_model or {}),
  )


def track_shards(count: int) -> list[str]:
  """The names of the files of tracks."""
  return shards.shard_names("tracks", count)


def _write_track_shards(
  output: shards.OutputFolder,
  inputs: Sequence[TrackInput],
  options: LongVidOptions,
  labeller: Labeller | None,
  report: TrackReport,
  processes: int,
) -> Counter[str]:
  """Writes the tracks of all sources; returns their counts."""
  excluded: frozenset[str] = frozenset()
  for path in options.exclude:
    excluded |= splits.read_id_list(path)
  tracks = TrackPass(options.shards, excluded, labeller, processes, report)
  shards.write_drawn_shards(output, track_shards(options.shards), tracks.lines(inputs))
  return tracks.counts


def _check_taken(counts: Counter[str], report: TrackReport) -> None:
  """Raises ValueError if no track was taken, with the reasons."""
  if any(name.endswith(": taken") for name in counts):
    return
  reasons = [f"{count} tracks of {name}" for name, count in sorted(counts.items())]
  if report.bad:
    reasons.append(f"{bad_count(report)} bad records, the first: {report.bad[0]}")
  raise ValueError(f"No source has a track to take: {'; '.join(reasons) or 'there is no record'}.")


def _write_questions(
  output: shards.OutputFolder, options: LongVidOptions, root: str, processes: int
) -> dict[str, Any]:
  """Fits the guard and writes all questions; returns what was counted."""
  rules = options.rules
  paths = [os.fspath(output.path / name) for name in track_shards(options.shards)]
  guard = json.dumps(dataclasses.asdict(fit_guard(_training_tracks(paths, rules)))).encode()
  guard_path = output.path / GUARD
  with files.write_atomically(guard_path) as file:
    file.write(guard)
  names = shards.shard_names(splits.TRAIN, options.shards)
  builder = ShardBuilder(rules, os.fspath(guard_path), os.fspath(output.path))
  numbered = list(zip(range(len(paths)), paths, names, strict=True))
  if options.per_task:
    highest = _highest_draws(builder.draws, numbered, options.per_task, processes)
    builder = dataclasses.replace(builder, highest=highest)
  total = ShardQuestions()
  with ChunkPool(builder, processes) as pool:
    for name, result in zip(names, pool.map(numbered), strict=True):
      output.show_part(name, result.facts)
      _add(total, result)
  _write_held_out(output, total.held_out, rules, root)
  return dict(
    guard=hashlib.sha256(guard).hexdigest(),
    root=os.path.basename(root),
    questions=total.facts.records,
    held_out=len(total.held_out),
    by_source=_by_source(total.asked),
    letters=dict(sorted(total.letters.items())),
    rejected=dict(sorted(total.rejected.items())),
    shown_seconds=_histogram(total.seconds),
  )


def _training_tracks(paths: Sequence[str], rules: QuestionRules) -> Iterator[Track]:
  """The first MOST_FITTED tracks of the training split."""
  shares = {splits.HELD_OUT: rules.held_out}
  tracks = itertools.chain.from_iterable(map(written_tracks, paths))
  training = (
    track for track in tracks if splits.split_of(track.key, shares, rules.seed) == splits.TRAIN
  )
  return itertools.islice(training, MOST_FITTED)


def _highest_draws(
  draws: Callable[[NumberedShard], dict[str, list[int]]],
  numbered: Sequence[NumberedShard],
  per_task: int,
  processes: int,
) -> dict[str, int]:
  """The highest draw, by task, so that `per_task` questions are taken."""
  merged: dict[str, list[int]] = {}
  with ChunkPool(draws, processes) as pool:
    for by_task in pool.map(numbered):
      for task, numbers in by_task.items():
        lowest = sorted(merged.get(task, []) + numbers)
        merged[task] = lowest[:per_task]
  return {task: numbers[-1] for task, numbers in merged.items()}


def _add(total: ShardQuestions, result: ShardQuestions) -> None:
  """Adds the counts of a shard."""
  records = total.facts.records + result.facts.records
  total.facts = dataclasses.replace(total.facts, records=records)
  total.held_out += result.held_out
  total.rejected += result.rejected
  total.asked += result.asked
  total.letters += result.letters
  total.seconds += result.seconds


def _write_held_out(
  output: shards.OutputFolder,
  questions: list[tuple[Track, DrawnQuestion]],
  rules: QuestionRules,
  root: str,
) -> None:
  """Writes the held-out set for evaluation, and its media for config.data.exclude."""
  with output.shard(HELD_OUT) as shard:
    for line in held_out_lines(questions, rules):
      shard.write(line)
  media = shown_files([track.media for track, _ in questions])
  names = [os.path.join(root, name) for name in media]
  splits.write_held_out_list(output.path / HELD_OUT_MEDIA, names)


def _by_source(asked: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
  """Source -> task -> questions."""
  table: dict[str, dict[str, int]] = {}
  for (source, task), count in sorted(asked.items()):
    table.setdefault(source, {})[task] = count
  return table


def _histogram(tens: Counter[int]) -> dict[str, int]:
  """Seconds, in tens, -> questions that show a video of this length."""
  return {str(10 * ten): count for ten, count in sorted(tens.items())}


def _write_bad(path: pathlib.Path, report: TrackReport) -> None:
  with files.write_atomically(path) as file:
    for record in report.bad:
      file.write(f"{record}\n".encode())
    more = bad_count(report) - len(report.bad)
    if more:
      file.write(f"and {more} more\n".encode())


def bad_count(report: TrackReport) -> int:
  """All records that were left out.

  Of very many, the report lists the first.
  """
  return report.bad.total if isinstance(report.bad, BadRecordLog) else len(report.bad)


def _written_figures(out: pathlib.Path) -> dict[str, Any]:
  content = json.loads((out / shards.RECIPE).read_text(encoding="utf-8"))
  del content["recipe"]
  return content
