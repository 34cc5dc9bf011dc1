# SPDX-License-Identifier: Apache-2.0
"""The mapping between parameters and PyTorch tensors.

It joins the tables of the components and serves both directions. Tensors have canonical names here:
the role and the name inside the component, as in "llm.layers.0.mlp.up_proj.weight". file_names.py
turns it into the name in a file.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import re
from typing import Any

from filax.convert import ConversionError, layout
from filax.models import components


@dataclasses.dataclass(frozen=True)
class TensorMapping:
  """One parameter and its tensors.

  `names` holds one canonical name a layer, or one in all. `share` = (i, n): the parameter is the
  i-th of n equal parts of the tensor's first axis.
  """

  path: str
  shape: tuple[int, ...]
  names: tuple[str, ...]
  layout: layout.TensorLayout
  stacked: bool
  vocab: int
  share: tuple[int, int] = (0, 1)

  @property
  def role(self) -> str:
    """The role of the component that has the parameter."""
    return self.path.partition("/")[0]

  @property
  def layer_shape(self) -> tuple[int, ...]:
    """The shape of one layer."""
    return self.shape[1:] if self.stacked else self.shape

  @property
  def tensor_shape(self) -> tuple[int, ...]:
    """The shape of a tensor, shared or not."""
    shape = self.layout.tensor_shape(self.layer_shape, self.vocab)
    if not self.layer_shape:
      return ()
    return (shape[0] * self.share[1], *shape[1:])

  def shared_rows(self, tensor):
    """This parameter's rows of a tensor (lazy or an array)."""
    return tensor if self.share == (0, 1) else RowShare(tensor, self.share)

  def read_layer(self, tensor, index: tuple[slice, ...]):
    """One layer of the parameter, cut to `index`, from a tensor.

    It has the tensor's dtype.
    """
    rows = self.shared_rows(tensor)
    return self.layout.from_tensor(rows, self.layer_shape, index, self.vocab)


@dataclasses.dataclass(frozen=True)
class RowShare:
  """The i-th of n equal parts of a tensor's first axis.

  It can be sliced like the tensor.
  """

  tensor: Any
  share: tuple[int, int]

  @property
  def dtype(self):
    return self.tensor.dtype

  def __getitem__(self, index):
    part, parts = self.share
    size = self.tensor.shape[0] // parts
    rows = range(size)[index[0]]
    first = part * size
    shifted = slice(first + rows.start, first + rows.stop)
    return self.tensor[(shifted, *index[1:])]


@dataclasses.dataclass(frozen=True)
class ComponentTables:
  """The tables of one component."""

  table: tuple[tuple[str, str, str], ...]  # (our path, their name, layout)
  spare: tuple[tuple[str, str], ...] = ()  # (their name, why it is not used)
  extra: tuple[tuple[str, str, float], ...] = ()  # (their name, axis, value without effect)


@functools.cache
def component_tables(role: str, name: str) -> ComponentTables:
  """The tables at the end of a component's file.

  A merger needs none. Raises ValueError if any other component has no TABLE.
  """
  module, _ = components.component(role, name)
  if hasattr(module, "TABLE"):
    spare = getattr(module, "SPARE", ())
    extra = getattr(module, "EXTRA", ())
    return ComponentTables(module.TABLE, spare, extra)
  if role == "merger":  # No other software has mergers: they keep our names and layout.
    return ComponentTables(())
  raise ValueError(
    f"There is no conversion table for {role} {name}. Add TABLE to the module of the component."
  )


def map_parameters(
  model: Mapping[str, Any],
  shapes: Mapping[str, Any],
  vocab: int,
) -> list[TensorMapping]:
  """The mapping of every parameter.

  shapes: path -> anything with a shape, model: config.model, which names the component of each
  role. Raises ConversionError listing all parameters without a table row.
  """
  mappings = []
  uncovered = []
  for path, leaf in shapes.items():
    role = path.partition("/")[0]
    tables = component_tables(role, model[role]["name"])
    try:
      mappings.append(_map_parameter(path, tables, tuple(leaf.shape), vocab))
    except LookupError:
      uncovered.append(f"{path} {tuple(leaf.shape)}")
  if uncovered:
    raise ConversionError(
      "Some parameters cannot be converted", {"no row in a table of filax/convert": uncovered}
    )
  return mappings


def _map_parameter(
  path: str,
  tables: ComponentTables,
  shape: tuple[int, ...],
  vocab: int,
) -> TensorMapping:
  """The mapping of one parameter.

  Raises LookupError if no table row matches it.
  """
  if not tables.table:
    return _map_by_path(path, shape, vocab)
  role, _, inner_path = path.partition("/")
  for ours, theirs, axes in tables.table:
    match = re.fullmatch(ours, inner_path)
    if match is None:
      continue
    name, share = _split_share(f"{role}.{match.expand(theirs)}")
    stacked = "*" in name
    names: tuple[str, ...] = (name,)
    if stacked:
      names = tuple(name.replace("*", str(layer)) for layer in range(shape[0]))
    return TensorMapping(path, shape, names, layout.parse_layout(axes), stacked, vocab, share)
  raise LookupError(path)


def _map_by_path(path: str, shape: tuple[int, ...], vocab: int) -> TensorMapping:
  """The mapping to a tensor of the same name and layout."""
  letters = " ".join(f"a{i}" for i in range(len(shape)))
  same_layout = layout.parse_layout(f"{letters} -> {letters}")
  names = (path.replace("/", "."),)
  return TensorMapping(path, shape, names, same_layout, False, vocab)


def _split_share(name: str) -> tuple[str, tuple[int, int]]:
  """ "x.qkv.weight[1/3]" -> ("x.qkv.weight", (1, 3))."""
  match = re.fullmatch(r"(.+)\[(\d+)/(\d+)\]", name)
  if match is None:
    return name, (0, 1)
  return match[1], (int(match[2]), int(match[3]))


def group_by_tensors(mappings: Sequence[TensorMapping]) -> list[list[TensorMapping]]:
  """Groups of mappings that share tensors, in order of the shares."""
  groups: dict[tuple[str, ...], list[TensorMapping]] = {}
  for mapping in mappings:
    groups.setdefault(mapping.names, []).append(mapping)
  return [sorted(group, key=lambda mapping: mapping.share) for group in groups.values()]


def spare_patterns(
  model: Mapping[str, Any],
  role: str,
  depth: int,
) -> Iterator[tuple[re.Pattern, str]]:
  """Yields (pattern, reason) of canonical names that a model does not use."""
  tables = component_tables(role, model[role]["name"])
  for pattern, reason in tables.spare:
    pattern = pattern.replace("{depth}", str(depth))
    yield re.compile(rf"{role}\." + pattern), reason
