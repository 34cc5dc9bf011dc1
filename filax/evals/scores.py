# SPDX-License-Identifier: Apache-2.0
"""Names of the scores of a result: eval/NAME/SCORE."""

from collections.abc import Iterator, Mapping
import math
from typing import Any

from filax.evals.teacher_forced import ALL

GROUPS = 50  # A column with more values is only in result.json.
COUNTS = ("questions", "skipped", "unparsed", "degenerate")


def named_scores(
  name: str, result: Mapping[str, Any], losses: Mapping[str, float]
) -> dict[str, float]:
  """The finite scores of a result and of its losses.

  result: {} if it failed.

  eval/NAME/accuracy, eval/NAME/by_kind/VALUE, eval/NAME/loss, eval/NAME/loss/KIND, and the numbers
  of questions, of skipped ones and of answers that were not understood.
  """
  table = dict(_result_scores(result)) | dict(_loss_scores(losses))
  named = {}
  for key, value in table.items():
    if value is not None and math.isfinite(value):
      named[f"eval/{name}/{key}"] = float(value)
  return named


def _result_scores(result: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
  if not result:
    return
  yield from result["scores"].items()
  for key in COUNTS:
    yield key, result[key]
  for column, groups in result["by"].items():
    if len(groups) > GROUPS:
      continue
    for value, row in groups.items():
      if value:
        yield f"by_{column}/{value}", row.get("accuracy")


def _loss_scores(losses: Mapping[str, float]) -> Iterator[tuple[str, float]]:
  """The loss of all samples and of every kind."""
  if ALL in losses:
    yield "loss", losses[ALL]
  kinds = [kind for kind in losses if kind != ALL]
  if len(kinds) <= GROUPS:
    for kind in kinds:
      yield f"loss/{kind}", losses[kind]
