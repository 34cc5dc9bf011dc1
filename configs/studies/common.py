# SPDX-License-Identifier: Apache-2.0
"""Shared parts of all studies.

A study is a file whose get_config(arg) creates a ConfigDict with `study` and fills it in with the
functions below. The argument `:7b` selects the same study with FiLA-Video-7B or VideoChat-Flash-7B
on the benchmarks of the paper.

"{data}" in a path stands for the folder of the data that the study generates.
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

DATA = "{data}"
HELD_OUT = f"{DATA}/held_out.json"
WITHOUT_PARAMETERS = ("mean", "bsm")  # Mergers.


def study(name: str, title: str, paper: str, note: str = "") -> ConfigDict:
  """An empty study; the file of the study fills in the rest.

  paper: the table that the study repeats. note: what a reader must know to understand its numbers.
  """
  s = ConfigDict()
  s.name = name
  s.title = title
  s.paper = paper
  s.note = note
  # The corpus: its kind, toy or world, and its arguments. With kind "" none is generated.
  s.data = dict(kind="")
  # Training runs: rows of (name, dict(config=, after=, seconds=)).
  s.runs = ()
  # Rows of the table, each a model and how it answers: (name, dict(run=, infer=, dropout=, blind=,
  # title=)).
  s.cells = ()
  # Sets of questions: rows of (name, dict(manifest=, data=, protocol=, root=, limit=, batch=)).
  s.questions = ()
  # Columns of the table: rows of (name, dict(questions=, field=, pattern=, paper=)).
  s.columns = ()
  # Claims of the paper: rows of (column, higher cell, lower cell, where the paper says it).
  s.contrasts = ()
  # Numbers of the paper: rows of (column, cell, number).
  s.published = ()
  # A plot: the label of its x axis, and rows of (name of the line, ((x, cell), ...)).
  s.axis = ""
  s.lines = ()
  return s


def set_merger(c: ConfigDict, merger: dict[str, Any], stage: str = "vision") -> None:
  """Sets the merger, and at which stage it merges.

  For a merger without parameters, its learning rate is removed: a rate that matches no parameter is
  an error.
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
  """Adds a training run.

  after: the run whose parameters this run starts from. seconds: a guess for two CPU cores.
  """
  run = dict(config=config.to_dict(), after=after, seconds=float(seconds))
  s.runs = (*s.runs, (name, run))


def add_cell(s: ConfigDict, name: str, run: str = "", title: str = "", **settings: Any) -> None:
  """Adds a row of the table: a model, and how it answers.

  The model is a run, or checkpoint=FOLDER.
  """
  s.cells = (*s.cells, (name, dict(run=run, title=title) | settings))


def add_questions(s: ConfigDict, name: str, manifest: str, **settings: Any) -> None:
  """Adds a set of questions: a manifest, or a benchmark by its name."""
  s.questions = (*s.questions, (name, dict(manifest=manifest) | settings))


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
  """Adds the paper's numbers of a column: cell -> number."""
  rows = [(column, cell, float(number)) for cell, number in numbers.items()]
  s.published = (*s.published, *rows)


def claim_published(s: ConfigDict, column: str, pairs: Sequence[tuple[str, str]], source: str):
  """Adds a claim for each pair of cells, in the order of the paper's numbers."""
  numbers = {cell: number for name, cell, number in s.published if name == column}
  for first, second in pairs:
    higher, lower = sorted((first, second), key=numbers.__getitem__, reverse=True)
    claim(s, column, higher, lower, source)
