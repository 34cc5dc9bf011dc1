# SPDX-License-Identifier: Apache-2.0
"""Where every parameter lies in a PyTorch model: the tables of the parts, joined, read both ways.

Tensors go by their canonical name here: the role and the name inside the part, as in
"llm.layers.0.mlp.up_proj.weight". schemes.py turns it into the name in a file.
"""

from collections.abc import Mapping
import dataclasses
import functools
import importlib
import importlib.util
import re
from typing import Any

from filax.convert import ConversionError, layout


@dataclasses.dataclass(frozen=True)
class Place:
  """One parameter and its tensors: `names` holds one canonical name a layer, or one in all."""

  path: str
  shape: tuple[int, ...]
  names: tuple[str, ...]
  layout: layout.Layout
  stacked: bool
  vocab: int

  @property
  def part(self) -> tuple[int, ...]:
    """The shape of one layer."""
    return self.shape[1:] if self.stacked else self.shape

  @property
  def their_shape(self) -> tuple[int, ...]:
    return self.layout.their_shape(self.part, self.vocab)


@dataclasses.dataclass(frozen=True)
class Part:
  """The tables of one component."""

  table: tuple[tuple[str, str, str], ...]
  spare: tuple[tuple[str, str], ...] = ()
  extra: tuple[tuple[str, str, float], ...] = ()


@functools.cache
def part(role: str, name: str) -> Part:
  """filax/convert/<name>.py, or the tables of your own component's module; mergers need none."""
  path = name.partition(":")[0] if ":" in name else f"filax.convert.{name}"
  if importlib.util.find_spec(path) is not None:
    module = importlib.import_module(path)
    if hasattr(module, "TABLE"):
      return Part(module.TABLE, getattr(module, "SPARE", ()), getattr(module, "EXTRA", ()))
  if role == "merger":  # No other software has them: they travel under our names and layout.
    return Part(())
  raise ValueError(
    f"There is no conversion table for {role} {name}. Add filax/convert/{name}.py, or TABLE to the "
    f"module of your component.")


def find(model: Mapping[str, Any], shapes: Mapping[str, Any], vocab: int) -> list[Place]:
  """The place of every parameter of `shapes` (path -> anything with a shape).

  model: config.model, which names the component of each role. Raises ConversionError listing all
  parameters that no row covers.
  """
  places, uncovered = [], []
  for path, leaf in shapes.items():
    role, _, inner = path.partition("/")
    try:
      places.append(_place(role, inner, part(role, model[role]["name"]), leaf.shape, vocab))
    except LookupError:
      uncovered.append(f"{path} {tuple(leaf.shape)}")
  if uncovered:
    raise ConversionError(
      "Some parameters cannot be converted", {"no row in a table of filax/convert": uncovered})
  return places


def _place(role: str, inner: str, tables: Part, shape, vocab: int) -> Place:
  path, shape = f"{role}/{inner}", tuple(shape)
  for ours, theirs, axes in tables.table:
    if match := re.fullmatch(ours, inner):
      name = f"{role}.{match.expand(theirs)}"
      stacked = "*" in name
      names = tuple(name.replace("*", str(i)) for i in range(shape[0])) if stacked else (name,)
      return Place(path, shape, names, layout.parse(axes), stacked, vocab)
  if tables.table:
    raise LookupError(path)
  letters = " ".join(f"a{i}" for i in range(len(shape)))
  return Place(
    path, shape, (f"{role}.{inner.replace('/', '.')}",), layout.parse(f"{letters} -> {letters}"),
    False, vocab)


def spare(model: Mapping[str, Any], role: str, depth: int) -> list[tuple[re.Pattern, str]]:
  """Canonical names of a role that a file may hold and the model does not use, and why."""
  tables = part(role, model[role]["name"])
  return [
    (re.compile(rf"{role}\." + pattern.replace("{depth}", str(depth))), why)
    for pattern, why in tables.spare]
