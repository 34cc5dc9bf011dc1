# SPDX-License-Identifier: Apache-2.0
"""What makes two evaluations differ beside their models."""

from typing import Any

from filax.evals.html_page import counted
from filax.evals.paired_answers import PairedAnswers, annotation_hashes
from filax.evals.results import Results

SAME_FIELDS = dict(  # Fields that should agree -> their name in words.
  protocol="protocols",
  protocol_version="versions of the protocol",
  metric="main scores",
)
SHOWN_FIELDS = ("checkpoint", "selector", "frames", "blind", "protocol", "filax")


def comparison_warnings(first: Results, second: Results, pairs: PairedAnswers) -> list[str]:
  """Sentences that a reader of the difference must know."""
  sentences = [*first.notes, *second.notes]
  for run in (first, second):
    if not run.result["finished"]:
      sentences.append(f"{run.folder} has not finished.")
  for field, words in SAME_FIELDS.items():
    before = first.result[field]
    after = second.result[field]
    if before != after:
      sentences.append(f"The {words} differ: {before or 'none'} and {after or 'none'}.")
  if annotation_hashes(first) != annotation_hashes(second):
    sentences.append("The annotation files differ by their hashes.")
  sentences += _unpaired(first, second, pairs)
  if _is_nameless_macro(first):
    sentences.append(
      "The main score is a macro average, but result.json does not name its column: the "
      "difference is that of plain means."
    )
  return sentences


def differing_settings(first: Results, second: Results) -> dict[str, list[Any]]:
  """Setting -> its values in both runs, where they differ."""
  before = _settings(first)
  after = _settings(second)
  table = {}
  for name in before | after:
    values = [before.get(name), after.get(name)]
    if values[0] != values[1]:
      table[name] = values
  return table


def _unpaired(first: Results, second: Results, pairs: PairedAnswers) -> list[str]:
  """Sentences about questions that only one run answered."""
  sentences = []
  for run, ids in ((first, pairs.only_first), (second, pairs.only_second)):
    if ids:
      questions = counted(len(ids), "question")
      sentences.append(f"{questions} answered by {run.folder} alone: left out.")
  if pairs.changed:
    sentences.append(
      f"{counted(len(pairs.changed), 'question')} changed, or their right answers: left out."
    )
  if pairs.repeated:
    sentences.append(f"{counted(len(pairs.repeated), 'id')} of several answers: left out.")
  return sentences


def _is_nameless_macro(run: Results) -> bool:
  """Whether the main score is a macro average over an unknown column."""
  if run.result["macro_column"]:
    return False
  scores = run.result["scores"]
  if "macro" not in scores or "micro" not in scores:
    return False
  return run.headline == scores["macro"] != scores["micro"]


def _settings(run: Results) -> dict[str, Any]:
  fields = {name: run.result[name] for name in SHOWN_FIELDS}
  return fields | run.result["settings"]
