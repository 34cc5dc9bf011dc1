# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written in the background, checked when read, restored onto any mesh.

A run folder holds checkpoints/<step>/ with three Orbax items:

  state   params, opt, step, rng, and the averages of runs that have them
  data    JSON: row, fingerprint, a digest of every array, and a root digest of all this and config
  config  JSON: the training config

A folder appears under its final name only when it is complete. A damaged folder, which cannot be
read or whose digests differ, is skipped. Inference reads and checks only `config`, and
`state/params` or the averages.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import functools
import json
import sys
from typing import Any

from etils import epath
import jax
from jaxtyping import PyTree
import orbax.checkpoint as ocp

from filax.checkpoint import base as base_lib
from filax.checkpoint import merged, orbax_items, record, run_folder, step_arrays, steps, storage
from filax.checkpoint.base import BaseReference
from filax.checkpoint.best import BestCheckpoint, BestStep
from filax.checkpoint.digest import digests as digests
from filax.checkpoint.record import FORMAT as FORMAT
from filax.checkpoint.record import Config, Record
from filax.checkpoint.record import Damaged as Damaged
from filax.checkpoint.step_arrays import OtherArrays as OtherArrays
from filax.checkpoint.tree import (
  compare_shapes,
  flatten_tree,
  leaf_shapes,
  select_leaves,
  unflatten_tree,
)
from filax.parallel import agreement

FOLDER = run_folder.CHECKPOINTS  # Below the workdir.
_GO_ON = "Look at the bucket and the network; the same command goes on from there."
HALF_WRITTEN = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True)
class Restored:
  """A restored training state, and its position in the data."""

  state: Any  # A dataclass of trees, with the fields that were saved.
  step: int
  row: int  # The number of global rows that were used.
  fingerprint: str  # That of the plan of rows.
  config: dict[str, Any]  # As in JSON: tuples are lists.
  base: BaseReference | None = None  # The checkpoint with the parameters that `state` lacks.


class Checkpoints:
  """The checkpoints of a run.

  Use as a context manager: leaving it waits for the last write.
  """

  def __init__(
    self,
    workdir: epath.PathLike,
    keep: int = 2,
    check: Callable[[], None] = lambda: None,
    best_metric: str = "",
  ):
    """Opens the checkpoints of a workdir.

    keep: how many of the newest checkpoints are kept; 0 = all. check: a function that raises if
    nothing may be written now. best_metric: the score whose best checkpoint is kept as well, as in
    config.best.
    """
    self.folder = steps.absolute_folder(workdir) / FOLDER
    self._check = check
    self._check()
    on_one_process(self._clean)  # Otherwise another process could see files vanish.
    self._best = BestCheckpoint(self.folder.parent, best_metric, check)
    self._manager = orbax_items.checkpoint_manager(self.folder, keep, check, self._best)
    self._before: Record | None = None  # The record of the restored checkpoint.
    self._base: BaseReference | None = None
    self._of_base: frozenset[str] = frozenset()

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind is not None:  # Report the error that ends the run, and no later one.
      with contextlib.suppress(Exception):
        self._manager.close()
      return
    with self._writing():
      self._manager.close()

  def _clean(self) -> None:
    """Removes unfinished saves."""
    for path in _half_written(self.folder):
      say(f"Skipping {path}: half-written when a run was stopped.")
      path.rmtree()

  def _failure(self) -> str:
    newest = "there is no whole one yet"
    for step in steps.newest_first(self.folder):
      if record.path_of_record(step).exists():
        newest = f"that of step {step.name} is whole"
        break
    return f"A checkpoint in {self.folder} could not be written, {newest}"

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Turns errors of a write into SaveFailed, and removes partial files."""
    try:
      with storage.explained(self._failure, self.folder, _GO_ON):
        yield
    except storage.SaveFailed:
      if jax.process_count() == 1:
        with contextlib.suppress(Exception):
          for path in _half_written(self.folder):
            path.rmtree()
      raise

  def save(self, state: Any, row: int, fingerprint: str, config: Config) -> None:
    """Copies the state off the devices and writes it in the background.

    A step is saved once. state: a dataclass of trees with a field `step`, such as
    filax.train.state.TrainState.
    """
    step = int(jax.device_get(state.step))
    if step not in self._manager.all_steps():
      self._check()
      items = orbax_items.checkpoint_items(
        self._saved_trees(state), step, row, fingerprint, config, self._before, self._base
      )
      with self._writing():
        self._manager.save(step, args=items, force=True)

  def leave_to_base(self, base: BaseReference, paths: Collection[str]) -> None:
    """Saves a reference to `base` in place of the parameters `paths`."""
    self._base = base
    self._of_base = frozenset(paths)

  def _saved_trees(self, state: Any) -> dict[str, PyTree]:
    trees = _present_trees(state)
    if self._of_base:
      leaves = flatten_tree(trees["params"])
      stored = select_leaves(leaves, lambda path: path not in self._of_base)
      trees["params"] = unflatten_tree(stored)
    return trees

  def offer_best(self, step: int, scores: Mapping[str, float]) -> bool:
    """Whether the scores make `step` the best one so far.

    If so, the caller must save it, and its checkpoint is kept.
    """
    with self._writing():
      return self._best.offer(step, scores)

  def recover_best(self, read_scores: Callable[[], Mapping[int, Mapping[str, float]]]) -> None:
    """Finds the best of the checkpoints that earlier starts left.

    read_scores: gives step -> scores; called on process 0.
    """
    self._best.start(self._manager.all_steps())
    with self._writing():
      on_one_process(lambda: self._best.recover(read_scores()))
    self._best.reload()

  @property
  def best(self) -> BestStep | None:
    """The best step by `best_metric` whose checkpoint is complete."""
    return self._best.best

  def raise_failed_save(self) -> None:
    """Raises SaveFailed if the save in the background failed."""
    with self._writing():
      self._manager.check_for_errors()

  def wait(self) -> None:
    """Returns when the last save is on disk."""
    with self._writing():
      self._manager.wait_until_finished()

  def latest(self) -> epath.Path | None:
    """The folder of the newest complete checkpoint."""
    step = self._manager.latest_step()
    return None if step is None else self.folder / str(step)

  def restore(self, like: Any) -> Restored | None:
    """Restores the newest good checkpoint; None if there is none.

    like: the shapes and shardings of the result. A damaged checkpoint is renamed to <step>.damaged
    with a message, and the one before is used. Raises ValueError if a checkpoint is of a newer
    format, and OtherArrays if it does not fit `like`.
    """
    for path in steps.agreed_steps(self.folder):
      try:
        restored, self._before = _restore(path, like)
        return restored
      except Damaged as error:
        say(f"Skipping {path}: {error}")
        on_one_process(functools.partial(run_folder.set_aside, path))
        self._manager.reload()
    return None


def exists(workdir: epath.PathLike) -> bool:
  """Whether a run folder has a checkpoint, good or not."""
  folder = steps.absolute_folder(workdir) / FOLDER
  return any(path.name.isdigit() for path in _listing(folder))


def restore_params(
  path: epath.PathLike, like: PyTree | None = None
) -> tuple[PyTree, list[str], list[str]]:
  """(params, missing, extra) of a run folder or of one step.

  like: ShapeDtypeStructs. A leaf is cast to the dtype, and placed by the sharding (default: on the
  first device). Without `like`, all leaves are read as they are stored. missing: leaves of `like`
  that the checkpoint lacks; params does not have them. extra: leaves of the checkpoint that are not
  read. Raises ValueError if a shape differs, and OSError if no checkpoint can be read.
  """
  for step in steps.agreed_steps(path):
    try:
      return _restore_params(step, like)
    except Damaged as error:
      _say_skipped(step, error)
  raise no_checkpoint(path)


def read_config(path: epath.PathLike) -> dict[str, Any]:
  """The training config of a run folder, or of one step.

  Tuples are lists.
  """
  for step in steps.steps_to_try(path):
    try:
      _, config = record.read_record(step)
      return config
    except Damaged as error:
      _say_skipped(step, error)
  raise no_checkpoint(path)


def agreed_config(path: epath.PathLike) -> dict[str, Any] | None:
  """The `read_config` of process 0, on all processes; None without a checkpoint."""

  def read_text() -> str:
    try:
      return json.dumps(read_config(path))
    except FileNotFoundError:
      return json.dumps(None)

  return json.loads(agreement.from_first(read_text))


def newest_step(path: epath.PathLike) -> epath.Path:
  """The folder of the newest readable step.

  path: a run, or one of its steps.

  Raises OSError if there is none.
  """
  for step in steps.steps_to_try(path):
    if base_lib.checkpoint_hash(step):
      return step
  raise no_checkpoint(path)


class NoCheckpoint(FileNotFoundError):
  """There is no readable step."""


def no_checkpoint(path: epath.PathLike) -> NoCheckpoint:
  """The error for a folder without a readable step."""
  text = (
    f"No readable checkpoint in {path}. Give the folder of a run, or of one of its checkpoints."
  )
  if epath.Path(path).exists():
    return NoCheckpoint(text)
  present = [step.name for step in run_folder.step_folders(epath.Path(path).parent)]
  if present:
    return NoCheckpoint(f"{text} The newest steps there are {', '.join(present[:5])}.")
  command = "hf download ORG/NAME --local-dir FOLDER"
  return NoCheckpoint(f"{text} A model of the Hugging Face hub is downloaded first: {command}")


def save_params(workdir: epath.PathLike, params: PyTree, config: Config) -> epath.Path:
  """Writes only parameters, as step 0 of `workdir`.

  config.init_from and inference can read such a folder.
  """
  folder = steps.absolute_folder(workdir) / FOLDER
  with orbax_items.checkpoint_manager(folder) as manager:
    items = orbax_items.checkpoint_items({"params": params}, 0, 0, "", config)
    manager.save(0, args=items)
  return folder / "0"


def say(text: str) -> None:
  """A message on stderr, from one process.

  While the processes have not joined yet, each one prints it.

  jax.process_index() would start jax's backend, and then processes can no longer join.
  """
  if not jax.distributed.is_initialized() or jax.process_index() == 0:
    print(text, file=sys.stderr, flush=True)


def _restore(path: epath.Path, like: Any) -> tuple[Restored, Record]:
  """(content, record) of a checkpoint."""
  written, config, stored = step_arrays.header(path)
  base = base_lib.reference_of(written)
  target = _present_trees(like)
  if base is not None:
    target["params"] = _stored_part(target["params"], stored)
  wanted = flatten_tree(target)
  step_arrays.check_same_leaves(path, config, wanted, stored)
  arrays = step_arrays.read_arrays(path, target, written)
  state = dataclasses.replace(like, **arrays)
  step = int(jax.device_get(state.step))
  if path.name != str(step):
    raise Damaged(f"it holds the state of step {step}.")
  if written["format"] == 1 and written["row"] != step * config.get("batch", 0):
    say(f"{path} stands at row {written['row']}, which is not its step x config.batch.")
  restored = Restored(state, step, written["row"], written["fingerprint"], config, base)
  return restored, written


def _present_trees(state: Any) -> dict[str, PyTree]:
  """Name of a field -> its tree, without absent ones."""
  return {name: tree for name, tree in vars(state).items() if tree is not None}


def _stored_part(params: PyTree, stored: Mapping[str, Any]) -> PyTree:
  """The parameters that a checkpoint stores itself."""
  leaves = flatten_tree(params)
  return unflatten_tree(select_leaves(leaves, lambda path: f"params/{path}" in stored))


def _restore_params(path: epath.Path, like: PyTree | None) -> tuple[PyTree, list[str], list[str]]:
  """`restore_params` of one step. Raises Damaged."""
  stored = step_arrays.open_params(path)
  every_leaf = merged.effective_leaves(stored, step_arrays.open_base)
  if like is None:
    wanted = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in every_leaf.items()}
  else:
    wanted = flatten_tree(like)
  stored_shapes = leaf_shapes({**stored.leaves, **every_leaf})
  compare_shapes(leaf_shapes(wanted), stored_shapes)
  params, extra = merged.read_params(stored, wanted, step_arrays.open_base)
  return unflatten_tree(params), sorted(wanted.keys() - params.keys()), extra


def _say_skipped(step: epath.Path, error: Damaged) -> None:
  """Says that a step is damaged, unless its run removed it meanwhile."""
  if step.exists():
    say(f"Skipping {step}: {error}")


def _listing(folder: epath.Path) -> list[epath.Path]:
  return list(folder.iterdir()) if folder.exists() else []


def _half_written(folder: epath.Path) -> list[epath.Path]:
  temporary = [path for path in _listing(folder) if HALF_WRITTEN in path.name]
  return temporary + orbax_items.unfinished_steps(folder)


def on_one_process(action: Callable[[], Any]) -> None:
  """Runs `action` on process 0; the others wait for it."""
  if jax.process_index() == 0:
    action()
  if jax.process_count() > 1:
    ocp.multihost.sync_global_processes("filax_checkpoint")
