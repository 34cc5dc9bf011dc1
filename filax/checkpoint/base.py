# SPDX-License-Identifier: Apache-2.0
"""References from a checkpoint of adapters to the checkpoint of their base.

A run with adapters does not save what it does not train. Its record names the base instead:

  "base": {"path": "/runs/stage4/checkpoints/900", "root": "<sha256>", "weights": "<sha256>"}

`weights` covers the digests of the base's parameters, so that another checkpoint at the same place
is noticed. It does not cover the config of the base, because the config of the adapters says what
the model computes. So a released folder that a later FiLax converts again, with more settings in
its config, is still the same base. `root` is the root digest of the base's record; references
written by earlier versions have only `root`.
The base's step is pinned: because of the file <run>/pins/<step>, config.keep does not remove it.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
from typing import Any

from etils import epath
import jax

from filax import files
from filax.checkpoint import averages, record, run_folder

PINS = "pins"  # Below the folder of a run: a file for every step that another run needs.

_MOVED: list[epath.Path] = []  # Folders in which bases are looked for as well.


class BaseMissing(ValueError):
  """The base of adapters is not there, or is another one."""


@dataclasses.dataclass(frozen=True)
class BaseReference:
  """The checkpoint of a base, with its hash."""

  path: str  # Of the step's folder.
  root: str
  weights: str = ""  # Of `weights_hash`; "" in references of earlier versions.

  def locate(self) -> epath.Path:
    """The folder of the step.

    At its path, or below a folder of `look_in`.

    Raises BaseMissing naming both hashes.
    """
    expected = self.weights or self.root
    others = []
    for step in self._candidates():
      present = weights_hash(step) if self.weights else checkpoint_hash(step)
      if present == expected:
        return step
      others.append(f"{step} is {present or 'not readable'}")
    where = f"; {', '.join(others)}" if others else ""
    raise BaseMissing(
      f"The base of these adapters, {self.path} with the hash {expected}, is not there{where}. "
      "Name the folder of the base with --base FOLDER."
    )

  def _candidates(self) -> list[epath.Path]:
    steps = [epath.Path(self.path)] if epath.Path(self.path).exists() else []
    for folder in _MOVED:
      steps += map(epath.Path, run_folder.step_folders(folder))
    return steps

  def as_record(self) -> dict[str, str]:
    """The entry of a checkpoint's record."""
    return dataclasses.asdict(self)


@contextlib.contextmanager
def reading_base(step: epath.Path) -> Iterator[None]:
  """Says that the base is damaged, not the adapters that name it."""
  try:
    yield
  except record.Damaged as error:
    raise BaseMissing(f"The base {step} of these adapters is damaged: {error}") from error


def look_in(folder: str) -> None:
  """Looks for bases in this run as well.

  This holds for the rest of the process. Raises ValueError for a folder without checkpoints."""
  path = epath.Path(files.absolute(folder))
  if not run_folder.step_folders(path):
    raise ValueError(f"--base {folder} has no checkpoint. Give the folder of the base's run.")
  _MOVED.append(path)


def refer(step: epath.Path) -> BaseReference:
  """The reference to a step.

  Raises BaseMissing if it cannot be read.
  """
  root = checkpoint_hash(step)
  if not root:
    raise BaseMissing(
      f"{step}, the base of the adapters, was removed or damaged while it was read."
    )
  return BaseReference(str(step), root, weights_hash(step))


def reference_of(written: Mapping[str, Any]) -> BaseReference | None:
  """The base that a record names; None if its checkpoint is whole."""
  entry = written.get("base")
  if entry is None:
    return None
  return BaseReference(entry["path"], entry["root"], entry.get("weights", ""))


def checkpoint_hash(step: epath.Path) -> str:
  """The hash of a checkpoint; "" if it cannot be read."""
  try:
    written, _ = record.read_record(step)
  except record.Damaged:
    return ""
  if "root" in written:
    return written["root"]
  return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()  # Format 1.


def weights_hash(step: epath.Path) -> str:
  """The hash of the parameters of a checkpoint and of its base.

  "" if the checkpoint cannot be read.
  """
  try:
    written, _ = record.read_record(step)
  except record.Damaged:
    return ""
  weights = {}
  for name, text in written["digests"].items():
    tree, _, _ = name.partition("/")
    if tree in (averages.PARAMS, averages.AVERAGE):
      weights[name] = text
  entry = written.get("base", {})
  below = entry.get("weights") or entry.get("root", "")
  facts = json.dumps([weights, below], sort_keys=True)
  return hashlib.sha256(facts.encode()).hexdigest()


def pin(step: epath.Path, user: epath.PathLike) -> bool:
  """Exempts a step from its run's limit.

  Returns whether its folder could be written.

  user: the workdir that needs it.
  """
  if jax.process_index() != 0:
    return True
  with contextlib.suppress(OSError):
    file = _pin_file(step)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{user}\n")
    return True
  return False


def is_pinned(folder: epath.Path, step: int) -> bool:
  """Whether another run needs a step of a folder of checkpoints."""
  return _pin_file(folder / str(step)).exists()


def _pin_file(step: epath.Path) -> epath.Path:
  return step.parent.parent / PINS / step.name
