# SPDX-License-Identifier: Apache-2.0
"""Values of annotation records that publishers write in several ways."""

from collections.abc import Sequence
import math
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from filax.evals.annotation_files import Row, text_field
from filax.evals.metrics.options import LETTERS


def words_field(row: Row, name: str) -> str:
  """A field that is a text with words. Raises RecordError for another."""
  text = text_field(row, name)
  if not text.strip():
    raise RecordError(f"has an empty {name}")
  return text


def id_field(row: Row, name: str) -> str:
  """A text or a whole number, as text.

  Raises RecordError for another value.
  """
  value = row.get(name)
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  is_number = isinstance(value, int) and not isinstance(value, bool)
  text = str(value).strip() if is_number or isinstance(value, str) else ""
  if not text:
    raise RecordError(f"has the {name} {excerpt(value)}, which is neither a text nor a number")
  return text


def as_number(value: Any, name: str) -> float:
  """A finite number, which may be written as text.

  Raises RecordError, with the name, for another value.
  """
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if not math.isfinite(number):
    raise RecordError(f"has the {name} {excerpt(value)}, which is not a number")
  return number


def option_number(value: Any, name: str, count: int) -> int:
  """The number of an option, counted from 0.

  It may be written as text. Raises RecordError, with the name, if it is none of `count`.
  """
  number = as_number(value, name)
  if number not in range(count):
    raise RecordError(f"has the {name} {excerpt(value)}, which is none of 0 to {count - 1}")
  return int(number)


def is_empty(value: Any) -> bool:
  """Whether a value is None, NaN or an empty text."""
  if isinstance(value, str):
    return not value.strip()
  return value is None or (isinstance(value, float) and math.isnan(value))


def without_labels(options: Sequence[str], before: str, behind: str) -> tuple[str, ...]:
  """Options without their letters, which stand between `before` and `behind`.

  If an option lacks its letter, all of them are unchanged.
  """
  texts = []
  for letter, option in zip(LETTERS, options, strict=False):
    label = f"{before}{letter}{behind}"
    if not option.startswith(label):
      return tuple(options)
    texts.append(option.removeprefix(label))
  return tuple(texts)
