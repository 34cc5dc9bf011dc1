# SPDX-License-Identifier: Apache-2.0
"""Scores a model on questions about videos.

Every video is read and encoded once for all its questions; reading runs in the background, answers
are generated in batches.
"""

import collections
from collections.abc import Sequence
import dataclasses
import itertools
import os
from typing import Any

from filax.evals.agreed_media import agreed_media
from filax.evals.answering import EvaluationRun
from filax.evals.kit import Benchmark, Example, Source
from filax.evals.reading import read_ahead
from filax.evals.registry import MANIFEST, check_manifest, find_benchmark, find_protocol
from filax.evals.report_file import NothingScored, ReportFile
from filax.infer.generate import check_answer_settings
from filax.infer.loaded import LoadedModel
from filax.infer.pair import also_of_pair


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
  """How questions are asked: the options of `evaluate`."""

  root: str
  selector: str | None
  blind: bool
  limit: int | None
  batch: int
  threads: int
  max_new_tokens: int | None
  progress: bool

  def __post_init__(self):
    for name in ("limit", "batch", "threads"):
      count = getattr(self, name)
      if count is not None and count < 1:
        raise ValueError(f"{name}={count} asks nothing. Set --{name} to 1 or more.")


@also_of_pair
def evaluate(
  session: LoadedModel,
  manifest: str | os.PathLike | Sequence[str],
  *,
  root: str = "",
  selector: str | None = None,
  blind: bool = False,
  limit: int | None = None,
  batch: int = 32,
  threads: int = 2,
  max_new_tokens: int | None = None,
  progress: bool = True,
  out: str | os.PathLike = "",
) -> dict[str, Any]:
  """The scores of a session on a manifest or benchmark.

  `selector` answers with another selector at the same number of visual tokens, `blind` shows grey
  pictures, `limit` asks the first questions only, `batch` prompts are answered at a time. `out` is
  a file for the report, updated during the run, so that a stopped run keeps its answers so far.

  Returns accuracy, questions, videos, unparsed (answers not understood; they count as wrong),
  skipped (questions not asked; they do not count), bad_media (why their media are unreadable),
  bad_questions (other errors, such as a prompt beyond the context), bad_records, by (column ->
  value -> accuracy and questions), seconds, finished and answers (one per question). Several
  manifests give a dict of such dicts. Raises ValueError if there are no questions, or if none could
  be scored.
  """
  options = EvaluationOptions(
    root, selector, blind, limit, batch, threads, max_new_tokens, progress
  )
  if isinstance(manifest, str | os.PathLike):
    return _evaluate_manifest(session, manifest, options, out)
  return {os.fspath(path): _evaluate_manifest(session, path, options) for path in manifest}


def _evaluate_manifest(
  loaded: LoadedModel,
  manifest: str | os.PathLike,
  options: EvaluationOptions,
  out: str | os.PathLike = "",
) -> dict[str, Any]:
  """The report of one manifest, also written to `out`."""
  path = check_manifest(manifest)
  benchmark = find_benchmark(MANIFEST)
  _, protocol = find_protocol(benchmark, "", "")
  source = Source(path, options.root)
  examples = read_questions(benchmark, source, options)
  loaded = prepare_model(loaded, benchmark, options.selector)
  settings = loaded.processor.settings(max_new_tokens=options.max_new_tokens)
  check_answer_settings(
    settings["max_new_tokens"], settings["temperature"], settings["top_p"], top_k=0
  )
  run = EvaluationRun(
    loaded,
    benchmark,
    protocol,
    settings,
    total=len(examples),
    batch=min(options.batch, len(examples)),
    blind=options.blind,
    progress=options.progress,
  )
  bad_records = [str(bad) for bad in source.report.bad]

  def summary() -> dict[str, Any]:
    return run.summary(path) | dict(bad_records=bad_records)

  file = ReportFile(summary, out)
  run.after_answers = file.refresh
  try:
    groups = read_ahead(loaded, examples, options.threads, options.blind)
    for group, media in agreed_media(groups, loaded.processor.mesh):
      run.add_questions(group, media)
    run.flush()
    run.finished = True
  finally:
    file.write_report()
  run.print_progress(last=True)
  if not run.answers:
    raise NothingScored(summary())
  return summary()


def read_questions(
  benchmark: Benchmark, source: Source, options: EvaluationOptions
) -> list[Example]:
  """The questions to ask, grouped by their media."""
  examples = list(itertools.islice(benchmark.read_examples(source), options.limit))
  if not examples:
    bad = source.report.bad
    reason = f"; the first reason: {bad[0]}" if bad else ""
    raise ValueError(f"The manifest {source.data} holds no question that can be asked{reason}.")
  groups = collections.defaultdict(list)
  for example in examples:
    groups[example.media].append(example)
  return list(itertools.chain.from_iterable(groups.values()))


def prepare_model(loaded: LoadedModel, benchmark: Benchmark, selector: str | None) -> LoadedModel:
  """The model with the benchmark's number of frames and another selector."""
  if benchmark.frames:
    sampling = dict(loaded.processor.sampling) | dict(frames=benchmark.frames)
    processor = loaded.processor.with_infer(sampling=sampling)
    loaded = dataclasses.replace(loaded, processor=processor)
  return loaded if selector is None else loaded.with_selector(selector)
