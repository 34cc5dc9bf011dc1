# SPDX-License-Identifier: Apache-2.0
"""Lists that data sets write as Python writes them."""

import ast
from typing import Any
import warnings

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError

LONGEST_LITERAL = 1 << 20  # Characters; parsing takes about a hundred times as many bytes.


def literal(cell: str) -> Any:
  """The Python literal in a cell, such as "['a', \"b's\"]".

  Nothing is executed. Raises RecordError.
  """
  if len(cell) > LONGEST_LITERAL:
    raise RecordError(f"has a list of {len(cell)} characters; at most {LONGEST_LITERAL} are read")
  try:
    if "\\" not in cell:
      return ast.literal_eval(cell)
    with warnings.catch_warnings():  # Of "\d" and the like.
      warnings.simplefilter("ignore")
      return ast.literal_eval(cell)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    raise RecordError(f"has {excerpt(cell)}, which is not a list in Python's form") from None


def literal_list(cell: str, name: str) -> list:
  """The list in a cell. Raises RecordError."""
  value = literal(cell)
  if not isinstance(value, list):
    raise RecordError(f"has {excerpt(cell)} in {name}, which is not a list")
  return value
