# SPDX-License-Identifier: Apache-2.0
"""The configs that come with FiLax, wherever it is installed.

In a checkout they are the folder `configs/`. An installed FiLax has them inside its package, so
that site-packages gets no package with such a common name.
"""

import importlib
import os
import pathlib
import sys
import types

FOLDER = pathlib.Path(__file__).parent / "configs"


def make_importable() -> None:
  """Lets a config file say `from configs import common`.

  A package `configs` of the user's own comes first; modules that it lacks are taken from FiLax.
  """
  try:
    package = importlib.import_module("configs")
  except ModuleNotFoundError:
    package = types.ModuleType("configs", "Configs that come with FiLax.")
    package.__path__ = []
    sys.modules["configs"] = package
  if str(FOLDER) not in package.__path__:
    package.__path__.append(str(FOLDER))


def find_file(name: str) -> str:
  """The file of a config: a path, or a shipped config.

  `name` itself if there is such a file, else the file that FiLax ships.
  find_file("configs/fila_stage4.py") and find_file("fila_stage4") find the shipped file from any
  folder. An unknown name is returned unchanged.
  """
  if os.path.exists(name):
    return name
  path = pathlib.PurePath(name)
  shipped = FOLDER / path.with_suffix(".py").name
  if str(path.parent) in (".", "configs") and shipped.is_file():
    return str(shipped)
  return name


def load_module(name: str) -> types.ModuleType:
  """A shipped config as a module: load_module("fila_toy")."""
  make_importable()
  return importlib.import_module(f"configs.{name}")
