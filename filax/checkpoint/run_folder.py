# SPDX-License-Identifier: Apache-2.0
"""Where the checkpoints of a run lie: <run>/checkpoints/<step>/state."""

from collections.abc import Sequence
from pathlib import Path

from etils import epath

CHECKPOINTS = "checkpoints"  # Below the folder of a run.


def step_folders(path: Path | epath.Path) -> Sequence[Path | epath.Path]:
  """The folders of all steps, newest first; none without such a folder.

  path: a run, its folder of checkpoints, or a step, which then is the only one.
  """
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
