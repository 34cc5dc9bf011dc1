# SPDX-License-Identifier: Apache-2.0
"""Trackers: where the metrics of a run go, besides the terminal.

A tracker has three methods (`RunTracker`). metrics.jsonl is always written, because the run itself
reads it again. The others are chosen by name in config.trackers and imported only then. None of
them ends a run: a failure is printed, and the records are kept and offered again (`NeverFailing`).
Process 0 alone tracks.
"""

from collections.abc import Callable, Mapping, Sequence
import importlib.util
import json
import math
import os
import pathlib
import uuid

from etils import epath

from filax import files
from filax.train import metrics, tensorboard
from filax.train.run_tracker import NeverFailing, RunTracker
from filax.train.run_tracker import TrackedRun as TrackedRun
from filax.train.workdir import Publisher, fetch_file, local_folder, publish_file

_ID_FILE = "tracked_run.txt"  # Below the workdir.
PROJECT = "filax"  # The project of hosted trackers; WANDB_PROJECT names another one for wandb.


class JsonLines:
  """metrics.jsonl: one line per record, complete on disk when `track` returns.

  Lines of steps after `run.first`, which a killed run wrote, are dropped at the start, so that each
  step is in the file once.
  """

  def __init__(self, publisher: Publisher):
    """publisher: copies the file to a workdir that is a bucket."""
    self._publisher = publisher
    self._path: pathlib.Path | None = None
    self._size = 0  # Bytes of whole lines.

  def begin_run(self, run: TrackedRun) -> None:
    """Opens the file."""
    path = fetch_file(run.workdir, "metrics.jsonl", grows=True)
    metrics.drop_records_after(path, run.first)
    self._size = path.stat().st_size if path.exists() else 0
    self._path = path

  def track(self, step: int, values: Mapping[str, float | None]) -> None:
    """Writes a line."""
    if self._path is None:
      raise RuntimeError("begin_run comes first.")
    self._publisher.check()
    line = json.dumps({"step": step, **values}).encode() + b"\n"
    with self._path.open("ab") as file:
      file.truncate(self._size)  # Without the half of a line that did not fit on the disk.
      file.write(line)
    self._size += len(line)
    self._publisher.publish(self._path)

  def end_run(self) -> None:
    """Does nothing: every line is on disk."""


class TensorBoard:
  """Event files in the workdir.

  On this machine if the workdir is a bucket.
  """

  def __init__(self):
    self._folder: pathlib.Path | None = None
    self._events: tensorboard.EventFile | None = None

  def begin_run(self, run: TrackedRun) -> None:
    """Opens a file; events of steps after `run.first` are dropped."""
    folder = local_folder(run.workdir) / "tensorboard"
    self._events = tensorboard.EventFile(folder)
    self._events.drop_steps_after(run.first)
    self._folder = folder

  def track(self, step: int, values: Mapping[str, float | None]) -> None:
    """Adds a scalar a value."""
    if self._folder is None:
      raise RuntimeError("begin_run comes first.")
    if self._events is None:  # The file before may end in half of an event.
      self._events = tensorboard.EventFile(self._folder)
    try:
      self._events.add_scalars(step, _tagged(values))
    except OSError:
      self._events = None
      raise

  def end_run(self) -> None:
    """Closes the file."""
    if self._events is not None:
      self._events.close()


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

  def track(self, step: int, values: Mapping[str, float | None]) -> None:
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

  def track(self, step: int, values: Mapping[str, float | None]) -> None:
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
  """A random name of the run, the same after a restart.

  The file has the workdir as its second line, so that the run in a copy of it gets another name.
  """
  path = fetch_file(workdir, _ID_FILE)
  here = files.absolute(workdir)
  name = ""
  if path.exists():
    name, _, place = path.read_text(errors="replace").strip().partition("\n")
    if place == here:
      return name
    if place and _id_at(place) == name:
      name = ""
  name = name or uuid.uuid4().hex[:12]
  path.write_text(f"{name}\n{here}\n", errors="replace")
  publish_file(workdir, path)
  return name


def _id_at(place: str) -> str:
  """The name of the run in a workdir, or ""."""
  try:
    name, _, _ = (epath.Path(place) / _ID_FILE).read_text().partition("\n")
    return name.strip()
  except Exception:  # The clients of buckets have their own kinds.
    return ""
