# SPDX-License-Identifier: Apache-2.0
"""Compares two evaluations question by question."""

import collections
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from filax.evals import resampling, shown_rows
from filax.evals.paired_answers import (
  PairedAnswers,
  column_groups_of,
  pair_answers,
  row_scores,
)
from filax.evals.result_fields import BadResults
from filax.evals.results import RIGHT, Results
from filax.evals.run_differences import comparison_warnings, differing_settings

UNITS = ("media", "question")  # What the bootstrap draws; the first is the default.
MOST_IDS = 100  # The most ids of unpaired questions that are listed.
LOST = "right → wrong"
GAINED = "wrong → right"


@dataclasses.dataclass(frozen=True)
class Bootstrap:
  """How intervals are made."""

  units: str = UNITS[0]
  resamples: int = resampling.RESAMPLES
  seed: int = resampling.SEED


DEFAULT = Bootstrap()


def compare_runs(runs: Sequence[Results], bootstrap: Bootstrap = DEFAULT) -> list[dict[str, Any]]:
  """Compares the first run with each other one.

  Raises BadResults for fewer than two runs, and as `compare`.
  """
  if len(runs) < 2:
    raise BadResults("One run alone cannot be compared. Name two or more.")
  first, *others = runs
  return [compare(first, second, bootstrap) for second in others]


def compare(first: Results, second: Results, bootstrap: Bootstrap = DEFAULT) -> dict[str, Any]:
  """The difference second - first over the questions that both answered.

  Its scores are those of these questions alone: `first_score`, `second_score`, `difference`, and
  `intervals` of the difference at 95 %, by resampling media with all their questions and by
  resampling questions. `interval` is that of bootstrap.units. Raises BadResults for runs of
  different benchmarks, and for runs that share no scored question.
  """
  check_comparable(first, second)
  pairs = pair_answers(first, second)
  if not pairs.first:
    raise BadResults(f"{first.folder} and {second.folder} share no scored question.")
  shows_text = first.shows_text and second.shows_text
  columns = [name for name in first.result["by"] if name in second.result["by"]]
  comparison = dict(
    schema=1,
    benchmark=first.benchmark,
    metric=first.result["metric"],
    macro_column=first.result["macro_column"],
    first=run_facts(first),
    second=run_facts(second),
    warnings=comparison_warnings(first, second, pairs),
    settings=differing_settings(first, second),
    paired=len(pairs.first),
    only_first=len(pairs.only_first),
    only_second=len(pairs.only_second),
    only_first_ids=pairs.only_first[:MOST_IDS],
    only_second_ids=pairs.only_second[:MOST_IDS],
  )
  comparison |= paired_difference(pairs, first.result["macro_column"], bootstrap)
  comparison["mcnemar"] = mcnemar(pairs)
  comparison["by"] = {column: column_differences(pairs, column) for column in columns}
  comparison["shows_text"] = shows_text
  comparison["flips"] = flipped_questions(pairs, columns, shows_text)
  return comparison


def check_comparable(first: Results, second: Results) -> None:
  """Raises BadResults for runs of different benchmarks, or without scored answers."""
  if first.benchmark != second.benchmark:
    raise BadResults(
      f"{first.folder} answers {first.benchmark} and {second.folder} {second.benchmark}: compare "
      "runs of one benchmark."
    )
  for run in (first, second):
    if not run.scored:
      raise BadResults(f"{run.folder} holds no scored answers, so no question can be paired.")


def run_facts(run: Results) -> dict[str, Any]:
  """What a comparison says of a run."""
  names = ("checkpoint", "protocol", "protocol_version", "comparable", "reasons", "questions")
  facts = {name: run.result[name] for name in names}
  return dict(folder=str(run.folder), score=run.headline) | facts


def paired_difference(
  pairs: PairedAnswers, macro_column: str, bootstrap: Bootstrap
) -> dict[str, Any]:
  """Scores on the common questions, their difference and its intervals."""
  before = row_scores(pairs.first)
  after = row_scores(pairs.second)
  groups = column_groups_of(pairs.first, macro_column)
  media = resampling.media_units(pairs.first)
  units = dict(media=media, question=np.arange(len(media)))
  intervals = {}
  for name, numbers in units.items():
    intervals[name] = resampling.bootstrap_interval(
      after - before,
      numbers,
      groups,
      resamples=bootstrap.resamples,
      seed=bootstrap.seed,
    )
  return dict(
    first_score=resampling.group_mean(before, groups),
    second_score=resampling.group_mean(after, groups),
    difference=resampling.group_mean(after - before, groups),
    interval=intervals[bootstrap.units],
    intervals=intervals,
    media=len(np.unique(media)),
    units=bootstrap.units,
    resamples=bootstrap.resamples,
    seed=bootstrap.seed,
  )


def mcnemar(pairs: PairedAnswers) -> dict[str, Any]:
  """McNemar's exact test.

  Under its null hypothesis a changed verdict is as often a gain as a loss. Questions count as
  independent.
  """
  import scipy.stats

  before = row_scores(pairs.first) >= RIGHT
  after = row_scores(pairs.second) >= RIGHT
  lost = int(np.sum(before & ~after))
  gained = int(np.sum(after & ~before))
  p = 1.0
  if lost + gained:
    test = scipy.stats.binomtest(lost, lost + gained, 0.5)
    p = float(test.pvalue)
  return dict(
    both_right=int(np.sum(before & after)),
    both_wrong=int(np.sum(~before & ~after)),
    lost=lost,
    gained=gained,
    p=p,
  )


def column_differences(pairs: PairedAnswers, column: str) -> dict[str, dict[str, Any]]:
  """Value of a column -> questions, both scores and their difference."""
  scores = collections.defaultdict(list)
  for before, after in zip(pairs.first, pairs.second, strict=True):
    both = (before["score"], after["score"])
    for value in shown_rows.column_values(before, column):
      scores[value].append(both)
  table = {}
  for value, rows in scores.items():
    first, second = np.mean(rows, axis=0).tolist()
    table[value] = dict(
      questions=len(rows),
      first=first,
      second=second,
      difference=second - first,
    )
  return table


def flipped_questions(
  pairs: PairedAnswers, columns: Sequence[str], shows_text: bool
) -> list[dict[str, Any]]:
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
      flip["columns"] = {name: shown_rows.column_values(before, name) for name in columns}
    flips.append(flip)
  return flips
