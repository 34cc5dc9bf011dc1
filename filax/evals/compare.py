# SPDX-License-Identifier: Apache-2.0
"""Compares two evaluations question by question."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from filax.evals import resampling, shown_rows
from filax.evals.results import RIGHT, BadResults, Results

UNITS = ("media", "question")  # What is drawn with replacement; the first is the default.
MOST_IDS = 100  # Of the listed ids of unpaired questions.
LOST = "right → wrong"
GAINED = "wrong → right"


class PairedAnswers(NamedTuple):
  """The answers of two runs to the same questions, in the order of the first run."""

  first: list[dict[str, Any]]
  second: list[dict[str, Any]]
  only_first: list[str]  # Ids.
  only_second: list[str]
  repeated: list[str]  # Ids of several lines: nothing says which belong together.


def compare_runs(
  runs: Sequence[Results],
  *,
  units: str = UNITS[0],
  resamples: int = resampling.RESAMPLES,
  seed: int = resampling.SEED,
) -> list[dict[str, Any]]:
  """Compares the first run with each other one.

  Raises BadResults for fewer than two runs, and for runs that share no question.
  """
  if len(runs) < 2:
    raise BadResults("One run alone cannot be compared. Name two or more.")
  first, *others = runs
  return [compare(first, second, units=units, resamples=resamples, seed=seed) for second in others]


def compare(
  first: Results,
  second: Results,
  *,
  units: str = UNITS[0],
  resamples: int = resampling.RESAMPLES,
  seed: int = resampling.SEED,
) -> dict[str, Any]:
  """The difference second - first over the questions that both answered.

  Its scores are those of these questions alone: `first_score`, `second_score`, `difference`, and
  `intervals` of the difference at 95 %, by resampling media with all their questions and by
  resampling questions. `interval` is that of `units`. Raises BadResults for other benchmarks.
  """
  check_comparable(first, second)
  pairs = pair_answers(first, second)
  if not pairs.first:
    raise BadResults(f"{first.folder} and {second.folder} share no answered question.")
  before = _scores(pairs.first)
  after = _scores(pairs.second)
  groups = _macro_groups(first, pairs.first)
  intervals = {}
  unit_numbers = dict(media=resampling.media_units(pairs.first), question=np.arange(len(before)))
  for name, numbers in unit_numbers.items():
    intervals[name] = resampling.bootstrap_interval(
      after - before, numbers, groups, resamples=resamples, seed=seed
    )
  shows_text = first.result["shows_text"] and second.result["shows_text"]
  columns = _common_columns(first, second)
  return dict(
    schema=1,
    benchmark=first.result["benchmark"],
    metric=first.result["metric"],
    first=_run_facts(first),
    second=_run_facts(second),
    warnings=_warnings(first, second, pairs),
    settings=_differing_settings(first, second),
    paired=len(before),
    only_first=len(pairs.only_first),
    only_second=len(pairs.only_second),
    only_first_ids=pairs.only_first[:MOST_IDS],
    only_second_ids=pairs.only_second[:MOST_IDS],
    first_score=resampling.group_means(before, groups),
    second_score=resampling.group_means(after, groups),
    difference=resampling.group_means(after - before, groups),
    macro_column=first.result["macro_column"],
    units=units,
    interval=intervals[units],
    intervals=intervals,
    media=len(np.unique(unit_numbers["media"])),
    resamples=resamples,
    seed=seed,
    mcnemar=mcnemar(before >= RIGHT, after >= RIGHT),
    by={column: _column_differences(pairs, column) for column in columns},
    flips=_flips(pairs, columns, shows_text),
    shows_text=shows_text,
  )


def check_comparable(first: Results, second: Results) -> None:
  """Raises BadResults for runs of other benchmarks, or without answers."""
  names = (first.result["benchmark"], second.result["benchmark"])
  if names[0] != names[1]:
    raise BadResults(
      f"{first.folder} answers {names[0]} and {second.folder} {names[1]}: compare runs of one "
      "benchmark."
    )
  for run in (first, second):
    if not run.scored:
      raise BadResults(f"{run.folder} holds no scored answers, so no question can be paired.")


def pair_answers(first: Results, second: Results) -> PairedAnswers:
  """Pairs the answers by the ids of their questions."""
  first_rows = _rows_by_id(first)
  second_rows = _rows_by_id(second)
  repeated = []
  pairs = PairedAnswers([], [], [], [], repeated)
  for name, rows in first_rows.items():
    others = second_rows.get(name)
    if others is None:
      pairs.only_first.append(name)
    elif len(rows) > 1 or len(others) > 1:
      repeated.append(name)
    else:
      pairs.first.append(rows[0])
      pairs.second.append(others[0])
  pairs.only_second.extend([name for name in second_rows if name not in first_rows])
  return pairs


def mcnemar(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
  """McNemar's exact test on right answers bool [n].

  Under the null hypothesis a changed verdict is as often a gain as a loss. Questions count as
  independent.
  """
  import scipy.stats

  lost = int((before & ~after).sum())
  gained = int((~before & after).sum())
  p = 1.0
  if lost + gained:
    p = float(scipy.stats.binomtest(lost, lost + gained, 0.5).pvalue)
  return dict(
    both_right=int((before & after).sum()),
    both_wrong=int((~before & ~after).sum()),
    lost=lost,
    gained=gained,
    p=p,
  )


def _rows_by_id(run: Results) -> dict[str, list[dict[str, Any]]]:
  rows = collections.defaultdict(list)
  for row in run.scored:
    rows[row["id"]].append(row)
  return dict(rows)


def _scores(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  return np.asarray([row["score"] for row in rows], np.float64)


def _macro_groups(run: Results, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """The group of each row i64 [n] in the mean of means; all 0 for the plain mean."""
  column = run.result["macro_column"]
  numbers: dict[str, int] = {}
  groups = []
  for row in rows:
    name = ", ".join(shown_rows.column_values(row, column)) if column else ""
    groups.append(numbers.setdefault(name, len(numbers)))
  return np.asarray(groups, np.int64)


def _common_columns(first: Results, second: Results) -> list[str]:
  return [column for column in first.result["by"] if column in second.result["by"]]


def _run_facts(run: Results) -> dict[str, Any]:
  result = run.result
  names = ("checkpoint", "protocol", "protocol_version", "comparable", "reasons", "questions")
  facts = {name: result[name] for name in names}
  return dict(folder=str(run.folder), score=run.headline) | facts


def _warnings(first: Results, second: Results, pairs: PairedAnswers) -> list[str]:
  """What makes the two runs differ beside their models."""
  sentences = [*first.notes, *second.notes]
  for run in (first, second):
    if not run.result["finished"]:
      sentences.append(f"{run.folder} has not finished.")
  sentences += _differing(first, second, "protocol", "protocols")
  sentences += _differing(first, second, "protocol_version", "versions of the protocol")
  sentences += _differing(first, second, "metric", "main scores")
  sentences += _differing_annotations(first, second)
  paired = len(pairs.first)
  for run, ids in ((first, pairs.only_first), (second, pairs.only_second)):
    if ids:
      sentences.append(
        f"{len(ids):,} questions were answered by {run.folder} alone; the difference is that of "
        f"the {paired:,} common ones."
      )
  if pairs.repeated:
    sentences.append(f"{len(pairs.repeated):,} ids occur several times and were left out.")
  scores = first.result["scores"]
  is_macro = "macro" in scores and first.headline == scores["macro"] != scores.get("micro")
  if is_macro and not first.result["macro_column"]:
    sentences.append(
      "The main score is a macro average, but result.json names no column of it: the difference "
      "is that of plain means."
    )
  return sentences


def _differing(first: Results, second: Results, field: str, words: str) -> list[str]:
  values = (first.result[field], second.result[field])
  if values[0] == values[1]:
    return []
  return [f"The {words} differ: {values[0] or 'none'} and {values[1] or 'none'}."]


def _differing_annotations(first: Results, second: Results) -> list[str]:
  """A warning about annotation files of other contents."""
  digests = []
  for run in (first, second):
    files = run.result["hashes"].get("annotations") or {}
    digests.append(sorted(map(str, files.values())))
  if digests[0] == digests[1]:
    return []
  return ["The annotation files differ (their hashes in result.json): questions may have changed."]


def _differing_settings(first: Results, second: Results) -> dict[str, list[Any]]:
  """Setting -> its values in both runs, where they differ."""
  before = _settings(first)
  after = _settings(second)
  table = {}
  for name in before | after:
    values = [before.get(name), after.get(name)]
    if values[0] != values[1]:
      table[name] = values
  return table


def _settings(run: Results) -> dict[str, Any]:
  names = ("checkpoint", "selector", "frames", "blind", "protocol", "filax")
  return {name: run.result[name] for name in names} | run.result["settings"]


def _column_differences(pairs: PairedAnswers, column: str) -> dict[str, dict[str, Any]]:
  """Value of a column -> questions, both scores and their difference."""
  scores: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
  for before, after in zip(pairs.first, pairs.second, strict=True):
    for value in shown_rows.column_values(before, column):
      scores[value].append((before["score"], after["score"]))
  table = {}
  for value, both in scores.items():
    first_mean, second_mean = np.mean(both, axis=0).tolist()
    table[value] = dict(
      questions=len(both),
      first=first_mean,
      second=second_mean,
      difference=second_mean - first_mean,
    )
  return table


def _flips(pairs: PairedAnswers, columns: Sequence[str], shows_text: bool) -> list[dict[str, Any]]:
  """The questions whose verdict changed; only letters where the licence forbids texts."""
  flips = []
  for before, after in zip(pairs.first, pairs.second, strict=True):
    was_right = before["score"] >= RIGHT
    is_right = after["score"] >= RIGHT
    if was_right == is_right:
      continue
    flip: dict[str, Any] = dict(
      id=before["id"],
      change=GAINED if is_right else LOST,
      question=shown_rows.shown_question(before, shows_text),
      expected=shown_rows.shown_expected(before, shows_text),
      first=shown_rows.shown_answer(before, shows_text),
      second=shown_rows.shown_answer(after, shows_text),
    )
    if shows_text:
      flip["columns"] = {column: shown_rows.column_values(before, column) for column in columns}
    flips.append(flip)
  return flips
