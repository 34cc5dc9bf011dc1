# SPDX-License-Identifier: Apache-2.0
"""The pages of the API reference: a page a room, each module with its public names."""

import importlib
import pathlib
import pkgutil

from docs.generators.page_files import update_page

ROOMS = (  # (package, whether the packages below it belong to the page)
  ("filax.spec", True),
  ("filax.models", True),
  ("filax.ops", True),
  ("filax.infer", True),
  ("filax.train", True),
  ("filax.evals", True),
  ("filax.checkpoint", True),
  ("filax.convert", False),
  ("filax.parallel", True),
  ("filax.plan", True),
  ("filax.studies", True),
  ("filax.testing", True),
  ("data_pipelines", False),
  ("data_pipelines.manifest", True),
  ("data_pipelines.media", True),
  ("data_pipelines.text", True),
  ("data_pipelines.packing", True),
  ("data_pipelines.synthesis", False),
  ("data_pipelines.tools", True),
)
FRONT = """API reference
=============

The names that ``import filax`` offers are stable: a change of them is announced in the list of
changes. All other modules are documented because programs of your own may need them.

.. toctree::
   :maxdepth: 1

"""
PUBLIC = """filax
=====

.. automodule:: filax
   :members:
   :imported-members:
   :no-index:

"""


def write_api_pages(folder: pathlib.Path) -> None:
  """Writes index.rst, filax.rst, and a page a room."""
  names = ["filax", *(package for package, _ in ROOMS)]
  entries = [f"   {name}" for name in names]
  update_page(folder / "index.rst", [FRONT, *entries])
  update_page(folder / "filax.rst", [PUBLIC])
  for package, deep in ROOMS:
    update_page(folder / f"{package}.rst", room_lines(package, deep))


def room_lines(package: str, deep: bool) -> list[str]:
  """The page of a room."""
  lines = [title(package, "="), "", f".. automodule:: {package}", ""]
  for module in module_names(package, deep):
    lines += [title(module, "-"), "", f".. automodule:: {module}", "   :members:", ""]
  return lines


def title(name: str, line: str) -> str:
  """A name as a heading."""
  text = name.replace("_", "\\_")
  return f"{text}\n{line * len(text)}"


def module_names(package: str, deep: bool) -> list[str]:
  """The public modules of a package.

  deep: also those of the packages below it.
  """
  names = []
  home = importlib.import_module(package)
  for module in pkgutil.iter_modules(home.__path__, f"{package}."):
    if module.name.rpartition(".")[2].startswith("_"):
      continue
    if not module.ispkg:
      names.append(module.name)
    elif deep:
      names += module_names(module.name, deep)
  return names
