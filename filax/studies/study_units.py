# SPDX-License-Identifier: Apache-2.0
"""The units of work of a study: its data, trained runs, and cells.

A unit may need other units. It works in a folder of its own, whose name has the hash of everything
that the unit depends on. So a changed study never mixes its files with those of an earlier one, and
cells with the same run share it.
"""

from collections.abc import Mapping, Sequence
import contextlib
import copy
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import time
from typing import Any, Protocol

import jax
from ml_collections import ConfigDict

from filax import files, released, settings
from filax.checkpoint.tuples import as_tuples
from filax.evals.rows import Row
from filax.evals.run import evaluate
from filax.infer.loaded import LoadedModel
from filax.models import components
from filax.studies.cell_files import CellFolder, CellQuestion, CellResult
from filax.studies.design import DATA, QuestionSet, StudyCell, StudyDesign, TrainedRun
from filax.studies.study_hash import SHORT, cell_hash, data_hash, run_hash
from filax.train.signals import Interrupted, Signals
from filax.training import run_training

_DONE = "study_done.json"


class StudyStopped(Exception):
  """A signal stopped a training run; the same command continues."""


def source_commit(file: str = __file__) -> str:
  """The commit of a file's checkout; "" without one.

  A + follows it if files differ from the commit.
  """
  git = ["git", "-C", os.path.dirname(file)]
  describe = ["describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
  run = functools.partial(subprocess.run, capture_output=True, text=True, check=True, timeout=20)
  try:
    run([*git, "ls-files", "--error-unmatch", file])  # An environment may lie in another checkout.
    return run([*git, *describe]).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return ""


@dataclasses.dataclass(frozen=True, eq=False)
class StudyPlace:
  """Where a study works and keeps its cells."""

  design: StudyDesign
  workdir: pathlib.Path
  cells: CellFolder
  commit: str = dataclasses.field(default_factory=source_commit)  # Of the code that was loaded.

  @functools.cached_property
  def data(self) -> pathlib.Path:
    """The folder of the data that the study makes."""
    return self.workdir / f"data-{data_hash(self.design)[:SHORT]}"

  @functools.cached_property
  def components(self) -> Sequence[str]:
    """The modules of components that the configs of the study name."""
    modules = set()
    for run in self.design.runs.values():
      for key, value in settings.leaves(run.config):
        if key.endswith(".name") and ":" in str(value):
          modules.add(value.partition(":")[0])
    return sorted(modules)

  def run_folder(self, run: str, seed: int) -> pathlib.Path:
    """The workdir of a training run."""
    digest = run_hash(self.design, run, seed)[:SHORT]
    return self.workdir / "runs" / f"{run}-seed{seed}-{digest}"

  def answers_folder(self, cell: StudyCell, seed: int) -> pathlib.Path:
    """The folder of a cell's answers."""
    digest = cell_hash(self.design, cell, seed)[:SHORT]
    return self.workdir / "answers" / f"{cell.name}-seed{seed}-{digest}"

  def filled(self, value: Any) -> Any:
    """A value with the folder of the data in its texts."""
    if isinstance(value, dict):
      return {key: self.filled(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
      return tuple(map(self.filled, value))
    if isinstance(value, str):
      return value.replace(DATA, str(self.data))
    return value


class StudyUnit(Protocol):
  """A part of the work that is done as a whole."""

  @property
  def name(self) -> str:
    """A name of its own in the study."""

  @property
  def guess(self) -> float:
    """Seconds by the study's config; 0 = unknown."""

  @property
  def needs(self) -> "Sequence[StudyUnit]":
    """Units that come before it."""

  def is_done(self) -> bool:
    """Whether its result is there. Raises ValueError for a damaged result."""

  def work(self) -> str:
    """Does the work; returns a note about the result."""


@dataclasses.dataclass(frozen=True, eq=False)
class DataUnit:
  """Makes the data of a study."""

  place: StudyPlace
  guess: float = 60.0

  @property
  def name(self) -> str:
    return self.place.data.name

  @property
  def needs(self) -> Sequence[StudyUnit]:
    return ()

  def is_done(self) -> bool:
    return (self.place.data / _DONE).exists()

  def work(self) -> str:
    recipe = dict(self.place.filled(dict(self.place.design.data)))
    kind = recipe.pop("kind")
    folder = self.place.data
    start = time.perf_counter()
    if kind == "toy":
      from data_pipelines.synthesis import toy

      toy.corpus(folder, **recipe)
    elif kind == "world":
      from data_pipelines.synthesis.world.recipe import read_recipe
      from data_pipelines.synthesis.world.world_files import write_world

      write_world(folder, read_recipe(recipe))
    else:
      raise ValueError(f"The study's data.kind={kind!r} is unknown. Set it to toy, world or ''.")
    _mark_done(folder, time.perf_counter() - start, self.place.commit)
    return str(folder)


class LastSession:
  """The checkpoint that was loaded last, for cells that share it."""

  def __init__(self) -> None:
    self._source = ""
    self._loaded: LoadedModel | None = None

  def forget(self) -> None:
    """Frees the memory of the model."""
    self._loaded = None

  def load(self, source: str, modules: Sequence[str]) -> LoadedModel:
    """The model of a checkpoint, whose components may be of `modules`."""
    if self._loaded is None or source != self._source:
      self.forget()
      self._loaded = released.load(source, components=modules)
      self._source = source
    return self._loaded


@dataclasses.dataclass(frozen=True, eq=False)
class TrainUnit:
  """Trains a run with a seed, as `filax train` does."""

  place: StudyPlace
  run: TrainedRun
  seed: int
  sessions: LastSession
  before: Sequence[StudyUnit] = ()

  @property
  def name(self) -> str:
    return f"train:{self.run.name}.seed{self.seed}"

  @property
  def guess(self) -> float:
    return self.run.seconds

  @property
  def needs(self) -> Sequence[StudyUnit]:
    return self.before

  @functools.cached_property
  def folder(self) -> pathlib.Path:
    return self.place.run_folder(self.run.name, self.seed)

  def is_done(self) -> bool:
    return (self.folder / _DONE).exists()

  def config(self) -> ConfigDict:
    """The config to train, with its seed and first parameters."""
    config = ConfigDict(self.place.filled(copy.deepcopy(dict(self.run.config))))
    config.seed += self.seed
    if self.run.after:
      config.init_from = str(self.place.run_folder(self.run.after, self.seed))
    settings.check_settings(config)
    return config

  def work(self) -> str:
    start = time.perf_counter()
    self.sessions.forget()
    summary: dict[str, Any] = dict(stopped=True)
    with contextlib.suppress(Interrupted), Signals() as signals:
      summary = run_training(self.config(), self.folder, signals=signals)
    if summary["stopped"]:
      raise StudyStopped
    _mark_done(self.folder, time.perf_counter() - start, self.place.commit)
    return f"{summary['steps']} steps, {summary['frames_per_second']:,.0f} frames/s"


@dataclasses.dataclass(frozen=True, eq=False)
class CellUnit:
  """Asks a trained run the questions, as `filax evals` does."""

  place: StudyPlace
  cell: StudyCell
  seed: int
  sessions: LastSession
  before: Sequence[StudyUnit] = ()

  @property
  def name(self) -> str:
    return f"{self.cell.name}.seed{self.seed}"

  @property
  def guess(self) -> float:
    return self.cell.seconds

  @property
  def needs(self) -> Sequence[StudyUnit]:
    return self.before

  @functools.cached_property
  def hash(self) -> str:
    """The hash of what the cell depends on."""
    return cell_hash(self.place.design, self.cell, self.seed)

  def is_done(self) -> bool:
    result = self.place.cells.read_cell(self.cell.name, self.seed)
    return result is not None and result.hash == self.hash

  def is_outdated(self) -> bool:
    """Whether there is a cell of another config."""
    result = self.place.cells.read_cell(self.cell.name, self.seed)
    return result is not None and result.hash != self.hash

  def work(self) -> str:
    start = time.perf_counter()
    source = self.place.filled(self.cell.checkpoint)
    if self.cell.run:
      source = str(self.place.run_folder(self.cell.run, self.seed))
    loaded = self.sessions.load(source, self.place.components)
    model = answering_model(loaded, self.cell)
    scores = {}
    digests = {}
    verdicts = {}
    for name, questions in self.place.design.questions.items():
      report = self._ask(model, questions)
      rows = scored_rows(report["answers"])
      scores[name] = float(report["scores"][report["metric"]])
      digests[name] = self.place.cells.write_cell_questions(asked_questions(rows, report["by"]))
      verdicts[name] = tuple(float(row["score"]) for row in rows)
    result = CellResult(
      study=self.place.design.name,
      cell=self.cell.name,
      seed=self.seed,
      hash=self.hash,
      commit=self.commits(),
      seconds=round(time.perf_counter() - start, 1),
      device=jax.devices()[0].device_kind,
      scores=scores,
      questions=digests,
      verdicts=verdicts,
    )
    self.place.cells.write_cell(result)
    return ", ".join(f"{name} {score:.3f}" for name, score in scores.items())

  def commits(self) -> str:
    """The commit of the code that asks, and others that trained."""
    names = [self.place.commit]
    for run in self.place.design.chain(self.cell.run):
      names.append(_done_facts(self.place.run_folder(run.name, self.seed)).get("commit", ""))
    return ", ".join(filter(None, dict.fromkeys(names)))

  def _ask(self, model: LoadedModel, questions: QuestionSet) -> dict[str, Any]:
    """The result of a set of questions."""
    folder = self.place.answers_folder(self.cell, self.seed) / questions.name
    return evaluate(
      model,
      self.place.filled(questions.manifest),
      data=self.place.filled(questions.data),
      protocol=questions.protocol,
      root=self.place.filled(questions.root),
      limit=questions.limit or None,
      batch=questions.batch,
      blind=self.cell.blind,
      out=folder,
      frame_cache=self.place.workdir / "frames",
    )


def answering_model(loaded: LoadedModel, cell: StudyCell) -> LoadedModel:
  """The model with a cell's selector, sampling and visual dropout."""
  processor = loaded.processor.with_infer(**as_tuples(dict(cell.infer)))
  selector = answering_selector(loaded.processor.infer, cell)
  model = loaded.model.clone(selector=selector)
  changed = dataclasses.replace(loaded, model=model, processor=processor)
  return changed.adjusted(dropout=cell.dropout)


def answering_selector(infer: Mapping[str, Any], cell: StudyCell) -> Any:
  """The selector of a cell: its own, or that of config.infer."""
  changed = dict(infer) | dict(cell.infer)
  return components.build("selector", as_tuples(dict(changed["selector"])))


def scored_rows(rows: Sequence[Row]) -> list[Row]:
  """The rows with a score, in the order of their ids."""
  by_id = {}
  for row in rows:
    if row["score"] is not None:
      by_id[row["id"]] = row
  return [by_id[name] for name in sorted(by_id)]


def asked_questions(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[CellQuestion]:
  """The questions of answers: id, video, and groups in the columns."""
  questions = []
  for row in rows:
    groups = {column: row.get(column, "") for column in columns}
    media = "/".join(pathlib.PurePath(row["media"]).parts[-2:])
    questions.append(CellQuestion(row["id"], media, groups))
  return questions


def done_seconds(folder: pathlib.Path) -> float | None:
  """The seconds of the unit of a folder; None if not done."""
  return _done_facts(folder).get("seconds")


def _done_facts(folder: pathlib.Path) -> dict[str, Any]:
  """Seconds and commit of a finished unit; empty if not done."""
  try:
    return json.loads((folder / _DONE).read_bytes())
  except (OSError, ValueError):
    return {}


def _mark_done(folder: pathlib.Path, seconds: float, commit: str) -> None:
  facts = dict(seconds=round(seconds, 1), commit=commit)
  with files.write_atomically(folder / _DONE) as file:
    file.write(json.dumps(facts).encode() + b"\n")
