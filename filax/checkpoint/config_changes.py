# SPDX-License-Identifier: Apache-2.0
"""Settings that differ between two configs.

A checkpoint has the config that it was trained with. The config.json of a run is for people: it
shows the config of the newest start, and nothing reads it but to say that an edit does not count.
"""

from collections.abc import Iterator, Mapping
import json
from typing import Any

from etils import epath

from filax import files
from filax.checkpoint import run_folder

FILE = "config.json"


def changed_settings(before: Any, after: Any, path: str) -> Iterator[str]:
  """Every setting that differs, in words."""
  if isinstance(before, Mapping) and isinstance(after, Mapping):
    for key in sorted(before.keys() & after.keys()):
      yield from changed_settings(before[key], after[key], f"{path}.{key}")
    for key in sorted(after.keys() - before.keys()):
      yield f"{path}.{key} is new: {after[key]!r}"
    for key in sorted(before.keys() - after.keys()):
      yield f"{path}.{key} was {before[key]} and is gone"
  elif before != after:
    yield f"{path} was {before} and is {after}"


def shown_config(workdir: epath.PathLike) -> dict[str, Any] | None:
  """The config.json of a run; None without a readable one."""
  try:
    shown = json.loads((epath.Path(files.absolute(workdir)) / FILE).read_text())
  except (OSError, ValueError, RecursionError):
    return None
  return shown if isinstance(shown, dict) else None


def edits(step: epath.Path, config: Mapping[str, Any], groups: tuple[str, ...]) -> list[str]:
  """The settings in groups that the run's config.json has otherwise.

  step: the folder of a checkpoint, whose config is given.
  """
  shown = shown_config(step.parent.parent)
  if step.parent.name != run_folder.CHECKPOINTS or shown is None:
    return []
  found: list[str] = []
  for group in groups:
    found += changed_settings(config.get(group), shown.get(group), f"config.{group}")
  return found
