# SPDX-License-Identifier: Apache-2.0
"""Answers as the servers of publishers take them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
import zlib

from filax.evals.kit import Example
from filax.evals.metrics.options import LETTERS


def every_row(
  rows: Iterable[Mapping[str, Any]], examples: Sequence[Example]
) -> list[dict[str, Any]]:
  """The answer rows of all questions, with their "options".

  A question that was skipped has a row without choice and score.
  """
  answered = {row["id"]: row for row in rows}
  complete = []
  for example in examples:
    skipped = dict(id=example.id, answer="", parsed=False, choice=None, score=None)
    row = answered.get(example.id, skipped)
    complete.append({**row, "options": example.options})
  return complete


def submitted_option(row: Mapping[str, Any], count: int) -> int:
  """The number of the chosen option, 0 to `count` - 1.

  A question without a valid choice gets a guess that depends on its id alone, since servers refuse
  or miscount other numbers.
  """
  choice = row.get("choice")
  if choice in tuple(LETTERS[:count]):
    return LETTERS.index(choice)
  return zlib.crc32(row["id"].encode()) % count
