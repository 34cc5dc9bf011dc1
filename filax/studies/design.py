# SPDX-License-Identifier: Apache-2.0
"""The design of a study, read from its config.

A config of configs/studies/ says which runs are trained, which cells are asked which questions,
into which columns the questions fall, which order of cells is claimed, and the paper's numbers.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any

from filax.setting_kinds import check_value, whole_number

DATA = "{data}"  # In paths of a study: the folder of the data that it makes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """A training run; `after` names the run whose parameters it starts from."""

  name: str
  config: Mapping[str, Any]
  after: str = ""
  seconds: float = 0.0  # A guess for the first estimate of the time; 0 = unknown.


@dataclasses.dataclass(frozen=True)
class StudyCell:
  """A row of the table: a run, and how it is asked."""

  name: str
  run: str = ""
  checkpoint: str = ""  # In place of a run: a folder that is there already.
  title: str = ""
  infer: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # Changes to config.infer.
  dropout: str = ""
  blind: bool = False
  seconds: float = 0.0

  @property
  def label(self) -> str:
    """The name of the row in tables."""
    return self.title or self.name


@dataclasses.dataclass(frozen=True)
class QuestionSet:
  """Questions of a manifest, or of a benchmark by its name."""

  name: str
  manifest: str
  data: str = ""
  protocol: str = ""
  root: str = ""
  limit: int = 0  # The first questions alone; 0 = all.
  batch: int = 32


@dataclasses.dataclass(frozen=True)
class StudyColumn:
  """The questions of a set whose entry `field` matches `pattern`.

  `paper` names the column of the paper's table; "" if it has none.
  """

  name: str
  questions: str
  field: str = ""
  pattern: str = ""
  paper: str = ""


@dataclasses.dataclass(frozen=True)
class Contrast:
  """The claim that in a column one cell scores above another.

  source: where the paper makes the claim.
  """

  column: str
  higher: str
  lower: str
  source: str = ""


@dataclasses.dataclass(frozen=True)
class StudyLine:
  """Cells along an axis, drawn as a line: (x, cell) in order."""

  name: str
  points: tuple[tuple[float, str], ...]


@dataclasses.dataclass(frozen=True)
class StudyDesign:
  """A whole study."""

  name: str
  title: str
  paper: str
  note: str
  data: Mapping[str, Any]
  runs: Mapping[str, TrainedRun]
  cells: Mapping[str, StudyCell]
  questions: Mapping[str, QuestionSet]
  columns: Mapping[str, StudyColumn]
  contrasts: tuple[Contrast, ...]
  published: Mapping[tuple[str, str], float]  # (column, cell) -> the paper's number.
  axis: str = ""  # What the x of `lines` is.
  lines: tuple[StudyLine, ...] = ()

  def chain(self, run: str) -> list[TrainedRun]:
    """A run and those that it starts from, the first one first."""
    runs: list[TrainedRun] = []
    name = run
    while name:
      if any(name == before.name for before in runs):
        raise ValueError(f"Study {self.name}: run {name!r} starts from itself.")
      runs.insert(0, self.runs[name])
      name = self.runs[name].after
    return runs


def read_design(config: Mapping[str, Any]) -> StudyDesign:
  """The design of a config as nested dicts.

  Raises ValueError naming the entry that refers to nothing.
  """
  name = str(config["name"])
  if not _NAME.fullmatch(name):
    raise ValueError(f"The study's name {name!r} cannot name files. Use letters, digits and _.")
  design = StudyDesign(
    name=name,
    title=config["title"],
    paper=config["paper"],
    note=config["note"],
    data=config["data"],
    runs=_named(TrainedRun, config["runs"], f"{name}: runs"),
    cells=_named(StudyCell, config["cells"], f"{name}: cells"),
    questions=_named(QuestionSet, config["questions"], f"{name}: questions"),
    columns=_named(StudyColumn, config["columns"], f"{name}: columns"),
    contrasts=tuple(Contrast(*row) for row in config["contrasts"]),
    published={(column, cell): number for column, cell, number in config["published"]},
    axis=config["axis"],
    lines=tuple(StudyLine(title, points) for title, points in config["lines"]),
  )
  _check_design(design)
  return design


def _named(kind: type, rows: Sequence[tuple[str, Mapping[str, Any]]], where: str) -> dict[str, Any]:
  """Name -> object of a section, in order.

  Raises ValueError for an unknown entry, and for a name that occurs twice.
  """
  known = {field.name for field in dataclasses.fields(kind)} - {"name"}
  objects: dict[str, Any] = {}
  for name, row in rows:
    if name in objects:
      raise ValueError(f"{where}.{name} occurs twice.")
    if kind is not StudyColumn and not _NAME.fullmatch(name):
      raise ValueError(f"{where}.{name} cannot name files. Use letters, digits, + and _.")
    if unknown := sorted(set(row) - known):
      raise ValueError(f"{where}.{name} has no {unknown[0]!r}. It has {', '.join(sorted(known))}.")
    objects[name] = kind(name=name, **row)
  return objects


def _check_design(design: StudyDesign) -> None:
  """Raises ValueError for a reference to nothing."""
  name = design.name
  if not design.cells or not design.columns:
    raise ValueError(f"Study {name} has no cells or no columns, so it measures nothing.")
  for run in design.runs.values():
    _check_reference(design.runs, run.after, f"{name}: runs.{run.name}.after")
    design.chain(run.name)
  for cell in design.cells.values():
    _check_reference(design.runs, cell.run, f"{name}: cells.{cell.name}.run")
    if bool(cell.run) == bool(cell.checkpoint):
      raise ValueError(f"{name}: cells.{cell.name} needs either a run or a checkpoint.")
  for column in design.columns.values():
    _check_reference(
      design.questions,
      column.questions,
      f"{name}: columns.{column.name}.questions",
      empty=False,
    )
    _check_pattern(column, name)
  for contrast in design.contrasts:
    where = f"{name}: contrasts"
    _check_reference(design.columns, contrast.column, where, empty=False)
    _check_reference(design.cells, contrast.higher, where, empty=False)
    _check_reference(design.cells, contrast.lower, where, empty=False)
  for column_name, cell_name in design.published:
    _check_reference(design.columns, column_name, f"{name}: published", empty=False)
    _check_reference(design.cells, cell_name, f"{name}: published", empty=False)
  for line in design.lines:
    for _, cell_name in line.points:
      _check_reference(design.cells, cell_name, f"{name}: lines.{line.name}", empty=False)
  for questions in design.questions.values():
    check_value(f"{name}: questions.{questions.name}.limit", questions.limit, whole_number(0))
    check_value(f"{name}: questions.{questions.name}.batch", questions.batch, whole_number(1))


def _check_reference(
  known: Mapping[str, Any],
  name: str,
  where: str,
  *,
  empty: bool = True,
) -> None:
  if name in known or (empty and not name):
    return
  raise ValueError(f"{where} names {name!r}, but there are only {', '.join(known) or 'none'}.")


def _check_pattern(column: StudyColumn, study: str) -> None:
  try:
    re.compile(column.pattern)
  except re.error as error:
    raise ValueError(
      f"{study}: columns.{column.name}.pattern={column.pattern!r} is not a regular expression "
      f"({error})."
    ) from None
