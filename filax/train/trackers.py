# SPDX-License-Identifier: Apache-2.0
"""Trackers: where the metrics of a run go, besides the terminal.

A tracker has three methods (`RunTracker`). metrics.jsonl is always written, because the run itself
reads it again. The others are chosen by name in config.trackers, imported only then, and never end
a run: the first failure of one is printed, and the run goes on without it. Process 0 alone tracks.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import sys
from typing import Any, Protocol, TextIO
import uuid

from etils import epath

from filax.train import metrics, tensorboard
from filax.train.workdir import fetch_file, local_folder, publish_file

PROJECT = "filax"  # The project of hosted trackers; WANDB_PROJECT names another one for wandb.


@dataclasses.dataclass(frozen=True)
class TrackedRun:
  """The run whose metrics follow."""

  workdir: epath.PathLike
  config: Mapping[str, Any]
  first: int  # The step that it starts from; records of later steps are replaced.

  @property
  def run_name(self) -> str:
    """The name of its folder."""
    return epath.Path(self.workdir).name


class RunTracker(Protocol):
  """Receives the metrics of a run."""

  def begin_run(self, run: TrackedRun) -> None:
    """Called once, before the first record, also when a run goes on."""
    ...

  def track(self, step: int, values: Mapping[str, float]) -> None:
    """Metrics after a step; the names of scores begin with eval/."""
    ...

  def end_run(self) -> None:
    """Called once, also after an error."""
    ...


class JsonLines:
  """metrics.jsonl: one line per record, complete on disk when `write_line` returns.

  Lines of steps after `run.first`, which a killed run wrote, are dropped at the start, so that each
  step is in the file once.
  """

  def __init__(self):
    self._run: TrackedRun | None = None
    self._lines: TextIO | None = None

  def begin_run(self, run: TrackedRun) -> None:
    """Opens the file."""
    self._run = run
    self._path = fetch_file(run.workdir, "metrics.jsonl")
    metrics.drop_records_after(self._path, run.first)
    self._lines = self._path.open("a")

  def track(self, step: int, values: Mapping[str, float | None]) -> None:
    """Writes a line."""
    if self._run is None or self._lines is None:
      raise RuntimeError("begin_run comes first.")
    self._lines.write(json.dumps({"step": step, **values}) + "\n")
    self._lines.flush()
    publish_file(self._run.workdir, self._path)

  def end_run(self) -> None:
    """Closes the file."""
    if self._lines is not None:
      self._lines.close()


class TensorBoard:
  """Event files in the workdir.

  On this machine if the workdir is a bucket.
  """

  def __init__(self):
    self._board: Any = None

  def begin_run(self, run: TrackedRun) -> None:
    """Opens the folder; events of steps after `run.first` are dropped."""
    folder = local_folder(run.workdir) / "tensorboard"
    self._board = tensorboard.open_writer(folder, run.first)

  def track(self, step: int, values: Mapping[str, float]) -> None:
    """Adds a scalar a value."""
    for key, value in _tagged(values).items():
      self._board.add_scalar(key, value, step)

  def end_run(self) -> None:
    """Writes what is left."""
    self._board.close()


class WandB:
  """Weights & Biases (extra wandb); WANDB_MODE=offline keeps it on this machine."""

  def begin_run(self, run: TrackedRun) -> None:
    """Starts the run, or goes on with that of the workdir."""
    import wandb

    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT") or PROJECT,
      name=run.run_name,
      id=_lasting_id(run.workdir),
      resume="allow",
      config=dict(run.config),
      dir=str(local_folder(run.workdir)),
    )

  def track(self, step: int, values: Mapping[str, float]) -> None:
    """Logs a record."""
    self._run.log(_tagged(values), step=step)

  def end_run(self) -> None:
    """Uploads what is left."""
    self._run.finish()


class Trackio:
  """trackio (extra trackio): a local dashboard, or a Space named in TRACKIO_SPACE_ID."""

  def begin_run(self, run: TrackedRun) -> None:
    """Starts the run, or goes on with that of the workdir."""
    import trackio

    name = f"{run.run_name}-{_lasting_id(run.workdir)}"
    self._run = trackio.init(project=PROJECT, name=name, resume="allow", config=dict(run.config))

  def track(self, step: int, values: Mapping[str, float]) -> None:
    """Logs a record."""
    self._run.log(_tagged(values), step=step)

  def end_run(self) -> None:
    """Writes what is left."""
    self._run.finish()


# Name in config.trackers -> (makes the tracker, module that it needs).
TRACKERS: dict[str, tuple[Callable[[], RunTracker], str]] = {
  "tensorboard": (TensorBoard, "tensorboardX"),
  "wandb": (WandB, "wandb"),
  "trackio": (Trackio, "trackio"),
}


class NeverFailing:
  """A tracker that ends no run.

  Its first failure is printed, then it is not called any more.
  """

  def __init__(self, name: str, tracker: RunTracker):
    self._name = name
    self._tracker = tracker
    self._works = True

  def begin_run(self, run: TrackedRun) -> None:
    """As the tracker's."""
    self._try(self._tracker.begin_run, run)

  def track(self, step: int, values: Mapping[str, float]) -> None:
    """As the tracker's."""
    self._try(self._tracker.track, step, values)

  def end_run(self) -> None:
    """As the tracker's."""
    self._try(self._tracker.end_run)

  def _try(self, call: Callable, *args) -> None:
    if not self._works:
      return
    try:
      call(*args)
    except Exception as error:  # Whatever a tracker raises is no reason to lose a run.
      self._works = False
      reason = " ".join(str(error).split()) or type(error).__name__
      print(
        f"The tracker {self._name} failed and is left out from here on: {reason}",
        file=sys.stderr,
        flush=True,
      )


def make_trackers(names: Sequence[str]) -> list[RunTracker]:
  """The trackers of config.trackers.

  Raises ValueError for an unknown name, and for one whose package is not installed.
  """
  trackers: list[RunTracker] = []
  for name in names:
    if name not in TRACKERS:
      raise ValueError(
        f"config.trackers names {name!r}, which is unknown. Choose from {', '.join(TRACKERS)}."
      )
    make, module = TRACKERS[name]
    if importlib.util.find_spec(module) is None:
      raise ValueError(
        f"config.trackers names {name!r}, which is not installed here: pip install 'filax[{name}]'."
      )
    trackers.append(NeverFailing(name, make()))
  return trackers


def _tagged(values: Mapping[str, float | None]) -> dict[str, float]:
  """The finite values, by names that group those of training."""
  tagged = {}
  for key, value in values.items():
    if value is not None and math.isfinite(value):
      tagged[key if "/" in key else f"train/{key}"] = value
  return tagged


def _lasting_id(workdir: epath.PathLike) -> str:
  """A random name of the run, the same after a restart."""
  path: pathlib.Path = fetch_file(workdir, "tracked_run.txt")
  if not path.exists():
    path.write_text(uuid.uuid4().hex[:12])
    publish_file(workdir, path)
  return path.read_text().strip()
