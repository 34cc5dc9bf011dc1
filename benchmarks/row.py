# SPDX-License-Identifier: Apache-2.0
"""The contract of a benchmark: a row measures one kind of work on two or more sides.

A file in benchmarks/rows/ ends in ROWS, a tuple of `BenchmarkRow`. Nothing in such a file
imports jax or torch outside of functions, because a worker process loads the packages of one side
only.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib
import importlib.util
import pkgutil
import re
from typing import Any

Shape = Mapping[str, Any]
Figures = Mapping[str, float]  # "seconds", "amount" of work (default 1), and any other figure.
Repetition = Callable[[], Figures]
OURS = "filax"


@dataclasses.dataclass(frozen=True)
class Side:
  """One way to do the work.

  `prepare(**shape)` builds everything in a worker process and returns the function that is timed.
  """

  name: str
  prepare: Callable[..., Repetition]
  packages: tuple[tuple[str, str], ...] = ()  # (module, what to install) of what it needs.
  threads: bool = False  # Whether the harness tries numbers of threads of torch.

  def missing(self) -> list[str]:
    """What to install before this side can run."""
    return [name for module, name in self.packages if importlib.util.find_spec(module) is None]


@dataclasses.dataclass(frozen=True)
class BenchmarkRow:
  """A kind of work, its shapes and sides; ours comes first."""

  name: str
  what: str  # A line for the table.
  unit: str  # Unit of the rate, such as tokens/s; "s" shows the seconds of a repetition.
  sides: tuple[Side, ...]
  shapes: tuple[Shape, ...]  # Shapes of the default run.
  full: tuple[Shape, ...] = ()  # Added by --full.
  axis: str = ""  # The key of the shape that grows in the plot.
  repeats: int = 0  # Fewer repetitions than the run's, for work of minutes; 0 = the run's.

  def shapes_of_run(self, full: bool) -> tuple[Shape, ...]:
    """The shapes of a default or a full run."""
    return (*self.shapes, *self.full) if full else self.shapes


def shape_text(shape: Shape) -> str:
  """A shape as text: "context=512 batch=1"."""
  return " ".join(f"{key}={value}" for key, value in shape.items())


def case_name(row: BenchmarkRow, shape: Shape) -> str:
  """The name of a case's file, without extension."""
  words = [row.name]
  for key, value in shape.items():
    words.append(name_part(f"{key}-{value}"))
  return ".".join(words)


def name_part(text: str) -> str:
  """A text as a part of a file's name."""
  return re.sub(r"[^\w-]+", "_", text)


def all_rows() -> dict[str, BenchmarkRow]:
  """Name -> row, of all files of benchmarks/rows/ in their order."""
  package = importlib.import_module("benchmarks.rows")
  files = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
  rows: dict[str, BenchmarkRow] = {}
  for file in files:
    for row in importlib.import_module(f"benchmarks.rows.{file}").ROWS:
      if row.name in rows:
        raise ValueError(f"benchmarks/rows/{file}.py repeats the row {row.name!r}. Rename it.")
      rows[row.name] = row
  return rows


def chosen_rows(names: Sequence[str]) -> list[BenchmarkRow]:
  """The rows of some names, or of names that begin so.

  Without names, these are all rows. Raises ValueError for a name that no row has.
  """
  rows = all_rows()
  if not names:
    return list(rows.values())
  chosen = []
  for name in names:
    matches = [row for row in rows.values() if row.name == name or row.name.startswith(f"{name}_")]
    if not matches:
      raise ValueError(f"No row is named {name!r}. Set --rows to some of {', '.join(rows)}.")
    chosen.extend(row for row in matches if row not in chosen)
  return chosen
