# SPDX-License-Identifier: Apache-2.0
"""Shared parts of all studies.

A study is a file with get_config(arg) that returns the ConfigDict of `study`, filled in. `:7b` is
the same study with FiLA-Video-7B or VideoChat-Flash-7B, on benchmarks of the paper.

"{data}" in a path is the folder of the data that the study makes.
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

DATA = "{data}"
HELD_OUT = f"{DATA}/held_out.json"
WITHOUT_PARAMETERS = ("mean", "bsm")  # Mergers.


def study(name: str, title: str, paper: str, note: str = "") -> ConfigDict:
  """An empty study; its file fills in the rest.

  paper: which table it repeats. note: what a reader must know to read its numbers.
  """
  s = ConfigDict()
  s.name = name
  s.title = title
  s.paper = paper
  s.note = note
  s.data = dict(kind="")  # kind toy or world, with the arguments of the corpus; "" makes none.
  s.runs = ()  # Rows of (name, dict(config=, after=, seconds=)): what is trained.
  s.cells = ()  # Rows of (name, dict(run=, infer=, dropout=, blind=, title=)): what is asked.
  s.questions = ()  # Rows of (name, dict(manifest=, data=, protocol=, root=, limit=, batch=)).
  s.columns = ()  # Rows of (name, dict(questions=, field=, pattern=, paper=)).
  s.contrasts = ()  # Rows of (column, higher cell, lower cell, where the paper says it).
  s.published = ()  # Rows of (column, cell, the paper's number).
  s.axis = ""  # The x of `lines`.
  s.lines = ()  # Rows of (name, ((x, cell), ...)).
  return s


def set_merger(c: ConfigDict, merger: dict[str, Any], stage: str = "vision") -> None:
  """Sets the merger and the stage at which it merges.

  A merger without parameters needs no learning rate.
  """
  c.model.merger = merger
  c.model.merge_stage = stage
  if merger["name"] in WITHOUT_PARAMETERS:
    c.optim.rates = tuple(row for row in c.optim.rates if row[0] != "^merger/")


def has_run(s: ConfigDict, name: str) -> bool:
  """Whether a run of this name was added."""
  return any(name == other for other, _ in s.runs)


def add_run(
  s: ConfigDict,
  name: str,
  config: ConfigDict,
  after: str = "",
  seconds: float = 0.0,
) -> None:
  """Adds a training run; `seconds` is a guess for two CPU cores."""
  run = dict(config=config.to_dict(), after=after, seconds=float(seconds))
  s.runs = (*s.runs, (name, run))


def add_cell(s: ConfigDict, name: str, run: str = "", title: str = "", **how: Any) -> None:
  """Adds a row of the table: a run, or checkpoint=FOLDER, and how it is asked."""
  s.cells = (*s.cells, (name, dict(run=run, title=title) | how))


def add_questions(s: ConfigDict, name: str, manifest: str, **how: Any) -> None:
  """Adds a set of questions: a manifest, or a benchmark by its name."""
  s.questions = (*s.questions, (name, dict(manifest=manifest) | how))


def add_column(
  s: ConfigDict,
  name: str,
  questions: str,
  field: str = "",
  pattern: str = "",
  paper: str = "",
) -> None:
  """Adds a column of the table."""
  column = dict(questions=questions, field=field, pattern=pattern, paper=paper)
  s.columns = (*s.columns, (name, column))


def claim(s: ConfigDict, column: str, higher: str, lower: str, source: str) -> None:
  """Adds a claim: `higher` scores above `lower` in a column."""
  s.contrasts = (*s.contrasts, (column, higher, lower, source))


def publish(s: ConfigDict, column: str, numbers: dict[str, float]) -> None:
  """Adds the paper's numbers of a column, by cell."""
  rows = [(column, cell, float(number)) for cell, number in numbers.items()]
  s.published = (*s.published, *rows)


def claim_published(s: ConfigDict, column: str, pairs: Sequence[tuple[str, str]], source: str):
  """Claims the paper's order for pairs of cells, whichever is higher."""
  numbers = {cell: number for name, cell, number in s.published if name == column}
  for first, second in pairs:
    higher, lower = sorted((first, second), key=numbers.__getitem__, reverse=True)
    claim(s, column, higher, lower, source)
