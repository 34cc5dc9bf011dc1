# SPDX-License-Identifier: Apache-2.0
"""Reads the folder of an evaluation: result.json and answers.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
import copy
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

SCHEMA = 1
RESULT = "result.json"
ANSWERS = "answers.jsonl"
PAGE = "page.html"
_NUMBER = (int, float)
REQUIRED: dict[str, tuple[type, ...]] = dict(
  benchmark=(str,),
  metric=(str,),
  scores=(dict,),
  total=(int,),
  questions=(int,),
  by=(dict,),
  shows_text=(bool,),
)
OPTIONAL: dict[str, Any] = dict(
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
RIGHT = 0.5  # The lowest score of an answer that counts as right where only right or wrong counts.


class BadResults(ValueError):
  """A folder is no evaluation, or its files are damaged.

  The message is one sentence that names the file.
  """


class Results(NamedTuple):
  """An evaluation as it lies on disk."""

  folder: pathlib.Path
  result: dict[str, Any]  # All fields of REQUIRED and OPTIONAL.
  answers: list[dict[str, Any]]  # The rows of answers.jsonl; [] without the file.
  notes: list[str]  # Sentences about what was left out.

  @property
  def scored(self) -> list[dict[str, Any]]:
    """The answers with a score."""
    return [row for row in self.answers if row["score"] is not None]

  @property
  def headline(self) -> float | None:
    """The score that stands for the benchmark."""
    return self.result["scores"].get(self.result["metric"])


def read_results(path: str | os.PathLike) -> Results:
  """The evaluation of a folder, or of the path of its result.json.

  Raises BadResults for another folder, another schema and damaged files.
  """
  folder = results_folder(path)
  result = _read_result(folder / RESULT)
  notes: list[str] = []
  answers = []
  if (folder / ANSWERS).exists():
    for row in _read_rows(folder / ANSWERS, notes):
      answers.append(row)
  elif result["questions"]:
    notes.append(f"{folder / ANSWERS} is missing: only the scores are known.")
  return Results(folder, result, answers, notes)


def results_folder(path: str | os.PathLike) -> pathlib.Path:
  """The folder that holds result.json. Raises BadResults without one."""
  folder = pathlib.Path(path)
  if folder.name == RESULT and not folder.is_dir():
    folder = folder.parent
  elif folder.is_file():
    raise BadResults(f"{folder} is no {RESULT}. Give it, or the folder that holds it.")
  if (folder / RESULT).is_file():
    return folder
  if not folder.exists():
    raise BadResults(f"There is no {folder}. Give a folder that `filax evals --out` wrote.")
  below = find_results(folder)
  if below:
    names = ", ".join([str(inner) for inner in below[:3]])
    raise BadResults(
      f"{folder} holds no {RESULT}, but {len(below)} below it do: name one ({names})."
    )
  raise BadResults(f"{folder} holds no {RESULT}. Give a folder that `filax evals --out` wrote.")


def find_results(path: str | os.PathLike) -> list[pathlib.Path]:
  """The folders at or below `path` that hold a result.json, sorted."""
  folders = []
  for folder, _, names in os.walk(path):
    if RESULT in names:
      folders.append(pathlib.Path(folder))
  return sorted(folders)


def run_names(folders: Sequence[str | os.PathLike]) -> list[str]:
  """The shortest ends of paths that tell folders apart."""
  paths = [pathlib.Path(os.path.abspath(folder)) for folder in folders]
  deepest = max([len(path.parts) for path in paths], default=1)
  names: list[str] = []
  for depth in range(1, deepest + 1):
    names = ["/".join(path.parts[-depth:]) for path in paths]
    if len(set(names)) == len(set(paths)):
      break
  return names


def _read_result(path: pathlib.Path) -> dict[str, Any]:
  """The fields of result.json, the optional ones filled in."""
  try:
    result = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise BadResults(f"{path} is no JSON document ({_first_line(error)}).") from None
  if not isinstance(result, dict) or "schema" not in result:
    raise BadResults(f"{path} has no field 'schema': `filax evals --out` did not write it.")
  schema = result["schema"]
  if schema != SCHEMA:
    raise BadResults(
      f"{path} has schema {_shortened(schema)}, written by FiLax {result.get('filax', 'unknown')}; "
      f"this FiLax reads schema {SCHEMA}."
    )
  missing = [name for name in REQUIRED if name not in result]
  if missing:
    raise BadResults(f"{path} lacks {', '.join(missing)}.")
  for name, kinds in REQUIRED.items():
    _check_kind(path, name, result[name], kinds)
  for name, default in OPTIONAL.items():
    if result.get(name) is None:
      result[name] = copy.deepcopy(default)
    elif default is not None and not isinstance(default, int):
      _check_kind(path, name, result[name], (type(default),))
  _check_scores(path, result)
  return result


def _check_kind(path: pathlib.Path, name: str, value: Any, kinds: tuple[type, ...]) -> None:
  if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
    words = " or ".join([kind.__name__ for kind in kinds])
    raise BadResults(f"{path}: {name} is {_shortened(value)}, not of kind {words}.")


def _check_scores(path: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Raises BadResults for scores that are no numbers."""
  for name, value in result["scores"].items():
    _check_number(path, f"scores.{name}", value)
  _check_number(path, "chance", result["chance"])
  for column, groups in result["by"].items():
    _check_kind(path, f"by.{column}", groups, (dict,))
    for name, group in groups.items():
      place = f"by.{column}.{name}"
      _check_kind(path, place, group, (dict,))
      if "accuracy" not in group or "questions" not in group:
        raise BadResults(f"{path}: {place} lacks accuracy or questions.")
      _check_number(path, f"{place}.accuracy", group["accuracy"])
      _check_kind(path, f"{place}.questions", group["questions"], (int,))


def _check_number(path: pathlib.Path, name: str, value: Any) -> None:
  """Raises BadResults for anything but a finite number or None."""
  if value is None:
    return
  _check_kind(path, name, value, _NUMBER)
  if not math.isfinite(value):
    raise BadResults(f"{path}: {name} is {value}, not a finite number.")


def _read_rows(path: pathlib.Path, notes: list[str]) -> Iterator[dict[str, Any]]:
  """The rows of answers.jsonl.

  The end of a last line that was never finished is left out and noted: a killed run leaves it.
  """
  seen: set[str] = set()
  repeated = 0
  with open(path, "rb") as file:
    for number, line in enumerate(file, 1):
      if not line.strip():
        continue
      try:
        row = _read_row(line, f"{path}:{number}")
      except BadResults:
        if line.endswith(b"\n"):
          raise
        notes.append(f"{path}:{number} is the torn line of a run that was stopped: left out.")
        break
      repeated += row["id"] in seen
      seen.add(row["id"])
      yield row
  if repeated:
    notes.append(f"{path}: {repeated} lines repeat the id of an earlier line.")


def _read_row(line: bytes, place: str) -> dict[str, Any]:
  """The answer of a line; its score is None if the publisher keeps the right answer.

  Raises BadResults.
  """
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise BadResults(f"{place} is no JSON ({_first_line(error)}).") from None
  if not isinstance(row, dict):
    raise BadResults(f"{place} is {_shortened(row)}, not an answer.")
  missing = [name for name in ("id", "answer", "score", "parsed") if name not in row]
  if missing:
    raise BadResults(f"{place} lacks {', '.join(missing)}.")
  score = row["score"]
  is_number = isinstance(score, _NUMBER) and not isinstance(score, bool)
  if score is not None and not (is_number and math.isfinite(score)):
    raise BadResults(f"{place}: score is {_shortened(score)}, not a finite number.")
  row["id"] = str(row["id"])
  return row


def _first_line(error: Exception) -> str:
  return str(error).splitlines()[0] if str(error) else type(error).__name__


def _shortened(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:57]}..."
