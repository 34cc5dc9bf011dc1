# SPDX-License-Identifier: Apache-2.0
"""Several evaluations beside each other and beside published scores."""

from collections.abc import Iterable, Sequence
import os
import pathlib
from typing import Any, NamedTuple

from filax.evals import published
from filax.evals.duration_groups import score_columns
from filax.evals.results import BadResults, Results, find_results, read_results, run_names

COPIED = (  # Fields of result.json that a report repeats.
  *("checkpoint", "protocol", "protocol_version", "note", "comparable", "reasons", "metric"),
  *("scores", "chance", "total", "questions", "videos", "skipped", "unparsed", "empty"),
  *("degenerate", "frames", "selector", "blind", "settings", "finished", "shows_text"),
)


class ReportedRun(NamedTuple):
  """An evaluation of a report."""

  name: str  # Of the checkpoint's run; it is the same for all its benchmarks.
  results: Results


class GatheredRuns(NamedTuple):
  """The evaluations below some folders."""

  runs: list[ReportedRun]
  unreadable: list[str]  # A sentence for each folder that is no sound evaluation.


def gather_runs(paths: Sequence[str | os.PathLike]) -> GatheredRuns:
  """Reads every evaluation at or below the paths.

  Raises BadResults if there is none; damaged ones beside sound ones are listed.
  """
  folders: dict[pathlib.Path, None] = {}
  for path in paths:
    below = find_results(_run_folder(path))
    if not below:
      read_results(path)  # Raises with the reason.
    folders.update(dict.fromkeys(below))
  all_results = []
  unreadable = []
  for folder in folders:
    try:
      all_results.append(read_results(folder))
    except BadResults as error:
      unreadable.append(str(error))
  if not all_results:
    raise BadResults(unreadable[0])
  names = _names(all_results)
  runs = []
  for results in all_results:
    runs.append(ReportedRun(names[_owner(results)], results))
  return GatheredRuns(runs, unreadable)


def build_report(gathered: GatheredRuns) -> dict[str, Any]:
  """The numbers of a report: benchmark -> its runs and published scores."""
  benchmarks = {}
  for name, runs in by_benchmark(gathered.runs).items():
    benchmarks[name] = dict(
      runs=[run_numbers(run) for run in runs],
      published=published_numbers(name, runs),
    )
  names = dict.fromkeys([run.name for run in gathered.runs])
  return dict(schema=1, runs=list(names), benchmarks=benchmarks, unreadable=gathered.unreadable)


def by_benchmark(runs: Iterable[ReportedRun]) -> dict[str, list[ReportedRun]]:
  """Benchmark -> its runs, in the order of the runs."""
  groups: dict[str, list[ReportedRun]] = {}
  for run in runs:
    groups.setdefault(run.results.result["benchmark"], []).append(run)
  return groups


def run_numbers(run: ReportedRun) -> dict[str, Any]:
  """The numbers of one run on one benchmark."""
  result = run.results.result
  numbers = dict(run=run.name, folder=str(run.results.folder), score=run.results.headline)
  numbers |= {name: result[name] for name in COPIED}
  numbers["by"] = score_columns(run.results)
  numbers["notes"] = run.results.notes
  return numbers


def published_numbers(benchmark: str, runs: Sequence[ReportedRun]) -> list[dict[str, Any]]:
  """Published scores, each with `mismatch`: why it must not be compared with these runs."""
  results = [run.results.result for run in runs]
  numbers = []
  for score in published.published_scores(benchmark):
    numbers.append(score._asdict() | dict(mismatch=published.mismatch(score, results)))
  return numbers


def _run_folder(path: str | os.PathLike) -> pathlib.Path:
  folder = pathlib.Path(path)
  return folder.parent if folder.is_file() else folder


def _owner(results: Results) -> pathlib.Path:
  """The folder of a run: the parent of RUN/<benchmark>."""
  folder = results.folder
  return folder.parent if folder.name == results.result["benchmark"] else folder


def _names(all_results: Sequence[Results]) -> dict[pathlib.Path, str]:
  """Folder of a run -> its name."""
  owners = list(dict.fromkeys([_owner(results) for results in all_results]))
  return dict(zip(owners, run_names(owners), strict=True))
