# SPDX-License-Identifier: Apache-2.0
"""Where the checkpoints of a run lie: <run>/checkpoints/<step>/state."""

from collections.abc import Sequence
import os
from pathlib import Path

from etils import epath

from filax.checkpoint import best, storage
from filax.files import is_bucket

CHECKPOINTS = "checkpoints"  # Below the folder of a run.
BEST = "best"  # <run>/best stands for the checkpoint that best.json names.


def step_folders(path: Path | epath.Path) -> Sequence[Path | epath.Path]:
  """The folders of all steps, newest first; none without such a folder.

  path: a run, its folder of checkpoints, or a step, which then is the only one. <run>/best is the
  step of its best.json. Raises ValueError if that file is damaged.
  """
  if path.name == BEST and not path.exists():
    best_step = best.read_best(path.parent / best.FILE)
    return [] if best_step is None else [path.parent / CHECKPOINTS / str(best_step.step)]
  if (path / "state").exists():
    return [path]
  folder = path / CHECKPOINTS
  if not folder.exists():
    folder = path
  try:
    children = list(folder.iterdir()) if folder.exists() else []
  except NotADirectoryError:
    children = []
  steps = [child for child in children if child.name.isdigit()]
  return sorted(steps, key=lambda step: int(step.name), reverse=True)


def step_folder(path: epath.Path, name: str) -> epath.Path:
  """The folder of the step `name`.

  It need not exist, or be visible on this host.

  path: as for `step_folders`, of which one is this step.
  """
  if path.name == BEST and not path.exists():
    return path.parent / CHECKPOINTS / name
  if (path / CHECKPOINTS).exists():
    return path / CHECKPOINTS / name
  return path if path.name == name else path / name


def check_may_save(run: epath.PathLike) -> None:
  """Raises SaveFailed if this user may not change the checkpoints.

  A group may be allowed to write the folder of the run, but not what another user put into it.
  """
  folder = epath.Path(run) / CHECKPOINTS
  if is_bucket(run) or not folder.exists() or os.access(folder, os.W_OK, effective_ids=True):
    return
  raise storage.SaveFailed(
    f"--workdir {os.fspath(run)} has {CHECKPOINTS} that this user may not change. Let their owner "
    f"allow it (chmod -R g+w {os.fspath(run)}), or set another --workdir."
  )


def set_aside(step: epath.Path) -> None:
  """Renames the folder of a damaged checkpoint.

  The step may have been written again and damaged again: then <step>.damaged has a number.
  """
  target = step.parent / f"{step.name}.damaged"
  number = 1
  while target.exists():
    number += 1
    target = step.parent / f"{step.name}.damaged-{number}"
  step.replace(target)
