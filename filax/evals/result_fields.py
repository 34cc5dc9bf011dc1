# SPDX-License-Identifier: Apache-2.0
"""The fields of result.json, and their checks."""

from collections.abc import Mapping
import copy
import json
import math
import pathlib
import sys
from typing import Any

SCHEMA = 1
REQUIRED: dict[str, type] = dict(
  benchmark=str,
  metric=str,
  scores=dict,
  total=int,
  questions=int,
  by=dict,
  shows_text=bool,
)
OPTIONAL: dict[str, Any] = dict(  # Field -> its value where it is missing or null.
  filax="",
  protocol="",
  protocol_version="",
  note="",
  macro_column="",
  comparable=False,
  reasons=[],
  chance=None,
  videos=0,
  skipped=0,
  unparsed=0,
  pending=0,
  empty=0,
  degenerate=0,
  unscored=0,
  missing=0,
  skipped_questions=[],
  bad_media={},
  bad_questions=[],
  bad_records=[],
  manifest="",
  checkpoint="",
  selector="",
  frames=None,
  blind=False,
  settings={},
  first_prompt="",
  hashes={},
  seconds={},
  idle_share=None,
  compilations=None,
  finished=False,
)
_WORDS = {str: "a text", dict: "an object", int: "a whole number", bool: "true or false"}


class BadResults(ValueError):
  """A folder is not an evaluation, or its files are damaged.

  The message is one sentence that names the file.
  """


def read_result(path: pathlib.Path) -> dict[str, Any]:
  """The fields of result.json, the optional ones filled in. Raises BadResults."""
  result = parse_json(path.read_bytes(), str(path))
  if not isinstance(result, dict) or "schema" not in result:
    raise BadResults(f"{path} has no field 'schema': `filax evals --out` did not write it.")
  _check_schema(path, result)
  missing = [name for name in REQUIRED if name not in result]
  if missing:
    raise BadResults(f"{path} lacks {', '.join(missing)}.")
  for name, kind in REQUIRED.items():
    check_kind(result[name], kind, f"{path}: {name}")
  for name, default in OPTIONAL.items():
    if result.get(name) is None:
      result[name] = copy.deepcopy(default)
    elif default is not None:
      check_kind(result[name], type(default), f"{path}: {name}")
  _check_scores(path, result)
  return result


def parse_json(content: bytes, place: str) -> Any:
  """The value of a JSON document. Raises BadResults."""
  try:
    return json.loads(content)
  except (ValueError, RecursionError) as error:
    reason = str(error).splitlines()[0]
    raise BadResults(f"{place} is not JSON ({reason}).") from None


def with_shared_keys(row: dict[str, Any]) -> dict[str, Any]:
  """The row with one copy of each key for all rows.

  A parser makes the keys of every line anew; they are half of the memory of a million answers.
  """
  return {sys.intern(key): value for key, value in row.items()}


def check_kind(value: Any, kind: type, place: str) -> None:
  """Raises BadResults for a value of another kind.

  True and false are not numbers.
  """
  is_other_bool = isinstance(value, bool) and kind is not bool
  if not isinstance(value, kind) or is_other_bool:
    words = _WORDS.get(kind, "a list")
    raise BadResults(f"{place} is {shortened_value(value)}, not {words}.")


def check_number(value: Any, place: str) -> None:
  """Raises BadResults for anything but a finite number or None."""
  if value is None:
    return
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not math.isfinite(value):
    raise BadResults(f"{place} is {shortened_value(value)}, not a finite number.")


def shortened_value(value: Any) -> str:
  """A value for a message."""
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:57]}..."


def _check_schema(path: pathlib.Path, result: Mapping[str, Any]) -> None:
  schema = result["schema"]
  if schema != SCHEMA:
    version = result.get("filax") or "of unknown version"
    raise BadResults(
      f"{path} has schema {shortened_value(schema)}, written by FiLax {version}; this FiLax reads "
      f"schema {SCHEMA}."
    )


def _check_scores(path: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Raises BadResults for scores and times that are not numbers."""
  check_number(result["chance"], f"{path}: chance")
  check_number(result["idle_share"], f"{path}: idle_share")
  for field in ("scores", "seconds"):
    for name, value in result[field].items():
      check_number(value, f"{path}: {field}.{name}")
  for column, groups in result["by"].items():
    place = f"{path}: by.{column}"
    check_kind(groups, dict, place)
    for name, group in groups.items():
      _check_group(group, f"{place}.{name}")


def _check_group(group: Any, place: str) -> None:
  """Raises BadResults for a group without accuracy and number of questions."""
  check_kind(group, dict, place)
  if "accuracy" not in group or "questions" not in group:
    raise BadResults(f"{place} lacks accuracy or questions.")
  check_kind(group["questions"], int, f"{place}.questions")
  for name, value in group.items():
    check_number(value, f"{place}.{name}")
