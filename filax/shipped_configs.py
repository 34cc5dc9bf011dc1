# SPDX-License-Identifier: Apache-2.0
"""The configs that come with FiLax, wherever it is installed.

They are the package filax.configs, which in a checkout is the folder `configs/`.
"""

from collections.abc import Sequence
import importlib.machinery
import os
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "configs"


class _ConfigsOfFiLax:
  """Finds `configs`, and modules that a package `configs` lacks, in FiLax."""

  def find_spec(
    self, name: str, path: Sequence[str] | None = None, target: object = None
  ) -> importlib.machinery.ModuleSpec | None:
    """Asked by `import` for modules that are nowhere else."""
    package, *modules = name.split(".")
    if package != "configs":
      return None
    folder = FOLDER.joinpath(*modules).parent
    return importlib.machinery.PathFinder.find_spec(name, [str(folder)])


_FINDER = _ConfigsOfFiLax()


def make_importable() -> None:
  """Lets the config file of a user say `from configs import common`.

  A package `configs` of the user's own comes first. Only filax.configs is always FiLax's.
  """
  if _FINDER not in sys.meta_path:
    sys.meta_path.append(_FINDER)


def find_file(name: str) -> str:
  """The file of a config: a path, or a shipped config.

  `name` itself if there is such a file, else the file that FiLax ships.
  find_file("configs/fila_stage4.py") and find_file("fila_stage4") find the shipped file from any
  folder. An unknown name is returned unchanged.
  """
  if os.path.isfile(name):
    return name
  path = pathlib.PurePath(name)
  shipped = FOLDER / f"{path.stem}.py"
  if str(path.parent) in (".", "configs") and shipped.is_file():
    return str(shipped)
  return name
