# SPDX-License-Identifier: Apache-2.0
"""Sets up Orbax for checkpoints: manager, handlers and items."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import datetime
import itertools
import json

from etils import epath
import jax
from jaxtyping import PyTree
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_manager import CheckpointInfo

from filax.checkpoint import digest, record, storage
from filax.checkpoint.base import BaseReference, is_pinned
from filax.checkpoint.best import BestCheckpoint
from filax.checkpoint.record import Config, Record
from filax.checkpoint.tree import flatten_tree
from filax.parallel import agreement

_LOOKERS = 32  # Threads that look at the steps of a run.


def checkpoint_manager(
  folder: epath.Path,
  keep: int = 0,
  check: Callable[[], None] = lambda: None,
  best: BestCheckpoint | None = None,
) -> ocp.CheckpointManager:
  """Orbax's manager of the three items of every checkpoint in `folder`.

  keep: number of newest checkpoints that stay; 0 = all. check: raises if nothing may be written
  now. best: also stays, and hears of every complete checkpoint.
  """
  options = ocp.CheckpointManagerOptions(
    preservation_policy=NewestAndBest(folder, keep, best),
    create=True,
    temporary_path_class=_checked_path(folder, check),
  )
  handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
  handlers.add("state", ocp.args.PyTreeSave, array_handler())
  handlers.add("data", record.RecordSave, record.RecordHandler())
  handlers.add("config", ocp.args.JsonSave, ocp.JsonCheckpointHandler())
  return _Manager(folder, best, options=options, handler_registry=handlers)


@dataclasses.dataclass(frozen=True)
class NewestAndBest:
  """Orbax's policy of which checkpoints stay.

  The newest ones, the best, and the bases of other runs.
  """

  folder: epath.Path
  keep: int  # 0 = all.
  best: BestCheckpoint | None

  def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
    """Whether each checkpoint stays; they come in order of their steps."""
    first_newest = len(checkpoints) - self.keep if self.keep else 0
    stay = []
    for number, checkpoint in enumerate(checkpoints):
      is_best = self.best is not None and self.best.protects(checkpoint.step)
      is_newest = number >= first_newest
      stay.append(is_newest or is_best or is_pinned(self.folder, checkpoint.step))
    return stay


def _checked_path(folder: epath.Path, check: Callable[[], None]) -> type:
  """The class by which Orbax writes below `folder`.

  It calls `check` before a save gets its final name.
  """
  default = ocp.path.atomicity_defaults.get_default_temporary_path_class(folder)

  class CheckedPath(default):  # type: ignore[valid-type, misc]  # Orbax chooses the base.
    async def finalize(self):
      check()
      await super().finalize()

  return CheckedPath


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which keeps older steps when a save fails.

  It also does not check for preemption signals: the training loop handles them.
  """

  def __init__(self, folder: epath.Path, best: BestCheckpoint | None, **options):
    super().__init__(folder, **options)
    self._best_checkpoint = best

  def reached_preemption(self, step: int) -> bool:
    return False

  def _load_checkpoint_infos(self, skip_metadata_read: bool = False):
    """The steps that process 0 lists, on all processes.

    Others may see an older list, and would then leave a save to process 0 alone. Orbax's own way
    starts two tasks for each step.
    """
    steps = json.loads(agreement.from_first(lambda: json.dumps(complete_steps(self.directory))))
    unknown = datetime.datetime.min
    return [CheckpointInfo(step, unknown, metrics=None) for step in steps]

  def _finalize_checkpoint(self, step: int) -> None:
    """Raises SaveFailed if the step was not written.

    Orbax raises an error of a background write only once, in the thread that asks first. If that is
    not its own background thread, this thread would continue, and remove older steps in favour of a
    step that was not written.
    """
    super()._finalize_checkpoint(step)
    path = self.directory / str(step)
    storage.forget_listings(path)
    if jax.process_index() == 0 and not _is_complete(path):
      raise storage.SaveFailed(f"{path} was not written.")
    if self._best_checkpoint is not None:
      self._best_checkpoint.note_written(step)


def complete_steps(folder: epath.Path) -> list[int]:
  """The steps in a folder of checkpoints, in order."""
  if not folder.exists():
    return []
  paths = [path for path in folder.iterdir() if path.name.isdigit()]
  with ThreadPoolExecutor(_LOOKERS) as pool:  # In a bucket, each look takes some 30 ms.
    complete = list(pool.map(_is_complete, paths))
  return sorted(int(path.name) for path in itertools.compress(paths, complete))


def unfinished_steps(folder: epath.Path) -> list[epath.Path]:
  """The steps that were being written when their run was killed.

  In Google Cloud Storage they have their final names already, but neither the last file nor a
  record. A step that was copied there has a record.
  """
  complete = complete_steps(folder)
  unfinished = []
  for path in folder.iterdir() if folder.exists() else ():
    is_step = path.name.isdigit()
    if is_step and int(path.name) not in complete and not record.path_of_record(path).exists():
      unfinished.append(path)
  return unfinished


def _is_complete(path: epath.Path) -> bool:
  """Whether a step has been written.

  Google Cloud Storage has no renames: a step gets its final name at once, and a file at last.
  """
  if str(path).startswith("gs://"):
    path = path / "commit_success.txt"
  return path.exists()


def array_handler() -> ocp.PyTreeCheckpointHandler:
  """Orbax's array handler, with one writing device per array and without compression.

  By default a replicated array is divided between the replicas, which compiles a program for every
  shape. Compression makes float32 files 8 % smaller, but takes three quarters of the time of a save
  and half of that of a restore. Checkpoints that were compressed are still read.
  """
  handler = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
  registry = ocp.type_handlers.create_type_handler_registry((jax.Array, handler))
  return ocp.PyTreeCheckpointHandler(type_handler_registry=registry, use_compression=False)


def checkpoint_items(
  state: PyTree,
  step: int,
  row: int,
  fingerprint: str,
  config: Config,
  before: Record | None = None,
  base: BaseReference | None = None,
) -> ocp.args.Composite:
  """The three items of a checkpoint, as arguments of `save`.

  state: dict of trees of arrays; they are copied to the host for their digests. before: the record
  of the checkpoint that the run resumed from. base: the checkpoint of the parameters that `state`
  lacks.
  """
  config = json.loads(json.dumps(dict(config)))
  facts = record.make_record(step, row, fingerprint, config, before)
  if base is not None:
    facts |= dict(format=record.FORMAT_WITH_BASE, base=base.as_record())
  parts = digest.host_parts(flatten_tree(state))
  return ocp.args.Composite(
    state=ocp.args.PyTreeSave(state),
    data=record.RecordSave(facts, parts),
    config=ocp.args.JsonSave(config),
  )
