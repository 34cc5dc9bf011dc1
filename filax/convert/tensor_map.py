# SPDX-License-Identifier: Apache-2.0
"""Where every parameter lies in a PyTorch model: the tables of the parts, joined, read both ways.

Tensors go by their canonical name here: the role and the name inside the part, as in
"llm.layers.0.mlp.up_proj.weight". schemes.py turns it into the name in a file.
"""

from collections.abc import Mapping
import dataclasses
import functools
import re
from typing import Any

from filax.convert import ConversionError, layout
from filax.models import components


@dataclasses.dataclass(frozen=True)
class Place:
  """One parameter and its tensors: `names` holds one canonical name a layer, or one in all.

  `share` = (i, n): the parameter is the i-th of n equal parts of the tensor's first axis.
  """

  path: str
  shape: tuple[int, ...]
  names: tuple[str, ...]
  layout: layout.Layout
  stacked: bool
  vocab: int
  share: tuple[int, int] = (0, 1)

  @property
  def part(self) -> tuple[int, ...]:
    """The shape of one layer."""
    return self.shape[1:] if self.stacked else self.shape

  @property
  def their_shape(self) -> tuple[int, ...]:
    """The shape of a whole tensor."""
    first, *rest = self.layout.their_shape(self.part, self.vocab) or (1,)
    return (first * self.share[1], *rest) if self.part else ()

  def own(self, tensor):
    """The rows of a tensor (lazy or an array) that are this parameter's."""
    return tensor if self.share == (0, 1) else Rows(tensor, self.share)

  def read(self, tensor, index: tuple[slice, ...]):
    """One layer of the parameter, cut to `index`, from a tensor; its dtype is the tensor's."""
    return self.layout.read(self.own(tensor), self.part, index, self.vocab)


@dataclasses.dataclass(frozen=True)
class Rows:
  """A view of the i-th of n equal parts of a tensor's first axis: slices like the tensor."""

  tensor: Any
  share: tuple[int, int]

  @property
  def dtype(self):
    return self.tensor.dtype

  def __getitem__(self, index):
    size = self.tensor.shape[0] // self.share[1]
    rows, first = range(size)[index[0]], self.share[0] * size
    return self.tensor[(slice(first + rows.start, first + rows.stop), *index[1:])]


@dataclasses.dataclass(frozen=True)
class Part:
  """The tables of one component."""

  table: tuple[tuple[str, str, str], ...]
  spare: tuple[tuple[str, str], ...] = ()
  extra: tuple[tuple[str, str, float], ...] = ()


@functools.cache
def part(role: str, name: str) -> Part:
  """The tables at the end of a component's file; a merger needs none.

  Raises ValueError if the component has no TABLE.
  """
  module, _ = components.component(role, name)
  if hasattr(module, "TABLE"):
    return Part(module.TABLE, getattr(module, "SPARE", ()), getattr(module, "EXTRA", ()))
  if role == "merger":  # No other software has them: they travel under our names and layout.
    return Part(())
  raise ValueError(
    f"There is no conversion table for {role} {name}. Add TABLE to the module of the component."
  )


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
      "Some parameters cannot be converted", {"no row in a table of filax/convert": uncovered}
    )
  return places


def _place(role: str, inner: str, tables: Part, shape, vocab: int) -> Place:
  path, shape = f"{role}/{inner}", tuple(shape)
  for ours, theirs, axes in tables.table:
    if match := re.fullmatch(ours, inner):
      name, share = _share(f"{role}.{match.expand(theirs)}")
      stacked = "*" in name
      names = tuple(name.replace("*", str(i)) for i in range(shape[0])) if stacked else (name,)
      return Place(path, shape, names, layout.parse(axes), stacked, vocab, share)
  if tables.table:
    raise LookupError(path)
  letters = " ".join(f"a{i}" for i in range(len(shape)))
  return Place(
    path,
    shape,
    (f"{role}.{inner.replace('/', '.')}",),
    layout.parse(f"{letters} -> {letters}"),
    False,
    vocab,
  )


def _share(name: str) -> tuple[str, tuple[int, int]]:
  """ "x.qkv.weight[1/3]" -> ("x.qkv.weight", (1, 3))."""
  match = re.fullmatch(r"(.+)\[(\d+)/(\d+)\]", name)
  return (match[1], (int(match[2]), int(match[3]))) if match else (name, (0, 1))


def tensors_of(places: list[Place]) -> list[list[Place]]:
  """Groups of places that share their tensors, in the order of the parts."""
  groups: dict[tuple[str, ...], list[Place]] = {}
  for place in places:
    groups.setdefault(place.names, []).append(place)
  return [sorted(group, key=lambda place: place.share) for group in groups.values()]


def spare(model: Mapping[str, Any], role: str, depth: int) -> list[tuple[re.Pattern, str]]:
  """Canonical names of a role that a file may hold and the model does not use, and why."""
  tables = part(role, model[role]["name"])
  return [
    (re.compile(rf"{role}\." + pattern.replace("{depth}", str(depth))), why)
    for pattern, why in tables.spare
  ]
