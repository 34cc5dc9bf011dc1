# SPDX-License-Identifier: Apache-2.0
"""Several evaluations beside each other and beside published scores."""

from collections.abc import Iterable, Sequence
import os
import pathlib
from typing import Any, NamedTuple

from filax.evals import published
from filax.evals.duration_groups import score_columns
from filax.evals.result_fields import BadResults
from filax.evals.results import Results, find_results, read_results, run_names

COPIED = (  # Fields of result.json that a report repeats.
  *("checkpoint", "protocol", "protocol_version", "note", "comparable", "reasons", "metric"),
  *("scores", "chance", "total", "questions", "videos", "skipped", "unparsed", "empty"),
  *("degenerate", "frames", "selector", "blind", "settings", "finished", "shows_text"),
)


class ReportedRun(NamedTuple):
  """An evaluation of a report."""

  name: str  # Name of the checkpoint's run, the same for all its benchmarks.
  results: Results


class GatheredRuns(NamedTuple):
  """The evaluations below some folders."""

  runs: list[ReportedRun]
  unreadable: list[str]  # A sentence for each folder that is not a sound evaluation.


def gather_runs(paths: Sequence[str | os.PathLike]) -> GatheredRuns:
  """Reads every evaluation at or below the paths.

  Raises BadResults if a path holds none, or no sound one; damaged ones beside sound ones are
  listed.
  """
  evaluations = []
  unreadable = []
  for folder in result_folders(paths):
    try:
      evaluations.append(read_results(folder))
    except BadResults as error:
      unreadable.append(str(error))
  if not evaluations:
    raise BadResults(unreadable[0])
  owners = list(map(owner_folder, evaluations))
  folders = list(dict.fromkeys(owners))
  names = dict(zip(folders, run_names(folders), strict=True))
  runs = []
  for owner, results in zip(owners, evaluations, strict=True):
    runs.append(ReportedRun(names[owner], results))
  return GatheredRuns(runs, unreadable)


def result_folders(paths: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
  """The folders at or below the paths that hold a result.json.

  Each comes once. Raises BadResults for a path without any.
  """
  folders: dict[pathlib.Path, None] = {}
  for text in paths:
    path = pathlib.Path(text)
    below = find_results(path.parent if path.is_file() else path)
    if not below:
      read_results(path)  # Raises with the reason.
    folders |= dict.fromkeys(below)
  return list(folders)


def owner_folder(results: Results) -> pathlib.Path:
  """The folder of a run: the parent of RUN/<benchmark>.

  A private benchmark "module:name" is in RUN/<name>.
  """
  folder = results.folder
  _, _, name = results.benchmark.rpartition(":")
  return folder.parent if folder.name == name else folder


def build_report(gathered: GatheredRuns) -> dict[str, Any]:
  """The numbers of a report: benchmark -> its runs and published scores."""
  benchmarks = {}
  for name, runs in by_benchmark(gathered.runs).items():
    evaluated = list(map(run_numbers, runs))
    benchmarks[name] = dict(runs=evaluated, published=published_numbers(name, evaluated))
  names = dict.fromkeys([run.name for run in gathered.runs])
  return dict(
    schema=1,
    runs=list(names),
    benchmarks=benchmarks,
    unreadable=gathered.unreadable,
  )


def by_benchmark(runs: Iterable[ReportedRun]) -> dict[str, list[ReportedRun]]:
  """Benchmark -> its runs, in the order of the runs."""
  groups: dict[str, list[ReportedRun]] = {}
  for run in runs:
    groups.setdefault(run.results.benchmark, []).append(run)
  return groups


def run_numbers(run: ReportedRun) -> dict[str, Any]:
  """The numbers of one run on one benchmark."""
  results = run.results
  copied = {name: results.result[name] for name in COPIED}
  return copied | dict(
    run=run.name,
    folder=str(results.folder),
    score=results.headline,
    by=score_columns(results),
    notes=results.notes,
  )


def published_numbers(benchmark: str, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Published scores.

  Each has `mismatch`: why it must not be compared with these runs; "" if it may.
  """
  numbers = []
  for score in published.published_scores(benchmark):
    entry = score._asdict()
    entry["mismatch"] = published.mismatch(score, runs)
    numbers.append(entry)
  return numbers
