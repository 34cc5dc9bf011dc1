# SPDX-License-Identifier: Apache-2.0
"""The files of finished cells, small enough to be committed.

<cell>.seed<k>.json      scores, verdicts on single questions, seed, hash of the config, commit
questions.<hash>.json    the questions that cells answered: id, video and groups of each

The verdicts on a set of questions are stored in the order of its file of questions: as a text of 0
and 1, such as "0110", or as a list of numbers if scores may lie between 0 and 1. Answers and texts
of questions are not kept.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from filax import files
from filax.studies.study_hash import digest_of

SCHEMA = 1
_HASH_DIGITS = 12
_DECIMALS = 4


@dataclasses.dataclass(frozen=True)
class CellQuestion:
  """A question as a cell file knows it."""

  id: str
  media: str
  groups: Mapping[str, Any]  # Column of the benchmark -> the question's group or groups.


@dataclasses.dataclass(frozen=True)
class CellResult:
  """A finished cell of one seed."""

  study: str
  cell: str
  seed: int
  hash: str  # Hash of everything that the cell depends on (study_hash.cell_hash).
  commit: str  # Of the code that asked, and after a comma others that trained.
  seconds: float
  device: str
  scores: Mapping[str, float]  # Set of questions -> mean score.
  questions: Mapping[str, str]  # Set of questions -> hash of its file of questions.
  verdicts: Mapping[str, tuple[float, ...]]  # Set of questions -> score of each question.


class CellFolder:
  """The folder of a study's finished cells."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder

  def cell_path(self, cell: str, seed: int) -> pathlib.Path:
    """The file of a cell."""
    return self.folder / f"{cell}.seed{seed}.json"

  def read_cell(self, cell: str, seed: int) -> CellResult | None:
    """A finished cell; None if there is none.

    Raises ValueError for a damaged file.
    """
    path = self.cell_path(cell, seed)
    try:
      text = path.read_bytes()
    except FileNotFoundError:
      return None
    try:
      return _parse_cell(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
      raise ValueError(
        f"{path} is damaged ({type(error).__name__}). Delete it: the same command asks again."
      ) from error

  def write_cell(self, result: CellResult) -> pathlib.Path:
    """Writes a finished cell atomically; returns its path."""
    value = dataclasses.asdict(result) | dict(schema=SCHEMA)
    value["verdicts"] = {name: _short_verdicts(row) for name, row in result.verdicts.items()}
    path = self.cell_path(result.cell, result.seed)
    _write_json(path, value)
    return path

  def write_cell_questions(self, questions: Sequence[CellQuestion]) -> str:
    """Writes, or repairs, a file of questions; returns its hash."""
    rows = []
    for question in questions:
      rows.append([question.id, question.media, dict(question.groups)])
    digest = digest_of(rows)[:_HASH_DIGITS]
    _write_json(self._questions_path(digest), rows)
    return digest

  def read_cell_questions(self, digest: str) -> list[CellQuestion]:
    """The questions of a hash.

    Raises ValueError for a missing or damaged file.
    """
    path = self._questions_path(digest)
    try:
      rows = json.loads(path.read_bytes())
      questions = [CellQuestion(*row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
      raise ValueError(
        f"{path} is missing or damaged. Delete the cells beside it that name {digest}: the same "
        "command asks again."
      ) from error
    return questions

  def _questions_path(self, digest: str) -> pathlib.Path:
    return self.folder / f"questions.{digest}.json"


def _parse_cell(value: Mapping[str, Any]) -> CellResult:
  entries = dict(value)
  del entries["schema"]
  verdicts = {}
  for name, row in value["verdicts"].items():
    verdicts[name] = tuple(map(float, row))
  return CellResult(**entries | dict(verdicts=verdicts))


def _short_verdicts(scores: Sequence[float]) -> str | list[float]:
  if set(scores) <= {0.0, 1.0}:
    return "".join(map("{:.0f}".format, scores))
  return [round(score, _DECIMALS) for score in scores]


def _write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON atomically, one row per line where it is a list."""
  if isinstance(value, list):
    rows = ",\n".join(json.dumps(row) for row in value)
    text = f"[\n{rows}\n]\n"
  else:
    text = json.dumps(value, indent=1) + "\n"
  with files.write_atomically(path) as file:
    file.write(text.encode())
