# SPDX-License-Identifier: Apache-2.0
"""Reads the folder of an evaluation: result.json and answers.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

from filax.evals import result_fields
from filax.evals.result_fields import BadResults, shortened_value

RESULT = "result.json"
ANSWERS = "answers.jsonl"
PAGE = "page.html"
# The columns of needle tests, which ask in several haystacks.
CELL = ("name", "frames", "depth", "control")
RIGHT = 0.5  # The lowest score of an answer that counts as right where only right or wrong counts.

Row = Mapping[str, Any]  # A line of answers.jsonl.


@dataclasses.dataclass(frozen=True)
class Results:
  """An evaluation as it lies on disk."""

  folder: pathlib.Path
  result: dict[str, Any]  # All fields of result_fields.
  answers: list[Row]  # [] without answers.jsonl.
  notes: list[str]  # Sentences about what was left out.

  @property
  def benchmark(self) -> str:
    """The name of the benchmark."""
    return self.result["benchmark"]

  @property
  def headline(self) -> float | None:
    """The score that stands for the benchmark."""
    name = self.result["metric"]
    return self.result["scores"].get(name)

  @property
  def scored(self) -> list[Row]:
    """The answers that count.

    Their right answer is public, they do not wait for their score, and they are not a control of a
    needle test.
    """
    return list(filter(_counts, self.answers))

  @property
  def shows_text(self) -> bool:
    """Whether pages may show questions, answers and pictures."""
    return self.result["shows_text"]


def read_results(path: str | os.PathLike) -> Results:
  """The evaluation of a folder, or of the path of its result.json.

  Raises BadResults for another folder, another schema and damaged files.
  """
  folder = results_folder(path)
  result = result_fields.read_result(folder / RESULT)
  notes: list[str] = []
  answers: list[Row] = []
  answers_path = folder / ANSWERS
  if answers_path.exists():
    answers.extend(_read_rows(answers_path, notes))
  elif result["questions"]:
    notes.append(f"{answers_path} is missing: only the scores are known.")
  return Results(folder, result, answers, notes)


def results_folder(path: str | os.PathLike) -> pathlib.Path:
  """The folder that holds result.json. Raises BadResults without one."""
  folder = pathlib.Path(path)
  if folder.name == RESULT and not folder.is_dir():
    folder = folder.parent
  elif folder.is_file():
    raise BadResults(f"{folder} is not a {RESULT}. Give it, or the folder that holds it.")
  if (folder / RESULT).is_file():
    return folder
  if not folder.exists():
    raise BadResults(f"There is no {folder}. Give a folder that `filax evals --out` wrote.")
  below = find_results(folder)
  if not below:
    raise BadResults(f"{folder} holds no {RESULT}. Give a folder that `filax evals --out` wrote.")
  names = ", ".join(map(str, below[:3]))
  raise BadResults(f"{folder} holds no {RESULT}, but {len(below)} below it do: name one ({names}).")


def find_results(path: str | os.PathLike) -> list[pathlib.Path]:
  """The folders at or below `path` that hold a result.json, sorted."""
  folders = []
  for folder, _, names in os.walk(os.fspath(path)):
    if RESULT in names:
      folders.append(pathlib.Path(folder))
  return sorted(folders)


def run_names(folders: Sequence[str | os.PathLike]) -> list[str]:
  """The shortest ends of paths that tell folders apart."""
  paths = [pathlib.Path(os.path.abspath(folder)) for folder in folders]
  deepest = max(len(path.parts) for path in paths)
  names: list[str] = []
  for depth in range(1, deepest + 1):
    names = ["/".join(path.parts[-depth:]) for path in paths]
    if len(set(names)) == len(set(paths)):
      break
  return names


def _read_rows(path: pathlib.Path, notes: list[str]) -> Iterator[Row]:
  """The rows of answers.jsonl.

  A last line without its end is left out and noted: a killed run leaves it.
  """
  ids: set[str] = set()
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
      repeated += row["id"] in ids
      ids.add(row["id"])
      yield row
  if repeated:
    notes.append(f"{path}: {repeated:,} lines repeat the id of an earlier line.")


def _read_row(line: bytes, place: str) -> Row:
  """The answer of a line.

  Its score is None if the publisher keeps the right answer. Raises BadResults.
  """
  row = result_fields.parse_json(line, place)
  if not isinstance(row, dict):
    raise BadResults(f"{place} is {shortened_value(row)}, not an answer.")
  missing = [name for name in ("id", "answer", "score", "parsed") if name not in row]
  if missing:
    raise BadResults(f"{place} lacks {', '.join(missing)}.")
  result_fields.check_number(row["score"], f"{place}: score")
  row["id"] = _question_id(row)
  return result_fields.with_shared_keys(row)


def _question_id(row: Row) -> str:
  """The id of a question; in needle tests with its cell."""
  words = [str(row["id"])]
  for name in CELL:
    value = row.get(name)
    if value not in (None, ""):
      words.append(f"{name}={value}")
  return " ".join(words)


def _counts(row: Row) -> bool:
  is_scored = row["score"] is not None and not row.get("pending")
  return is_scored and not row.get("control")
