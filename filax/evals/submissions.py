# SPDX-License-Identifier: Apache-2.0
"""Answers as the servers of publishers take them."""

from collections.abc import Mapping
from typing import Any
import zlib

from filax.evals.metrics.options import LETTERS


def submitted_option(row: Mapping[str, Any], count: int) -> int:
  """The number of the chosen option, 0 to `count` - 1.

  A question without a valid choice gets a guess that depends on its id alone, since servers refuse
  or miscount other numbers.
  """
  choice = row.get("choice")
  if choice and choice in LETTERS[:count]:
    return LETTERS.index(choice)
  return zlib.crc32(row["id"].encode()) % count
