# SPDX-License-Identifier: Apache-2.0
"""How every array lies on the mesh: regex -> dimension words -> mesh axes, one table each."""

from collections.abc import Sequence
import math
import re

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

MESH = ("data", "fsdp", "seq", "tensor")  # Always these four axes; a config only sets their sizes.

# Dimension of a parameter -> mesh axes. None = whole on every device.
PARAMETER_AXES = {
  "embed": ("fsdp", "seq"),
  "vocab_rows": ("fsdp", "seq"),
  "width": "fsdp",  # The model width of an encoder.
  "vocab": "tensor",
  "heads": "tensor",
  "kv_heads": "tensor",
  "mlp": "tensor",
  "head_dim": None,
  "layers": None,
  "-": None,
}
# Dimension of an activation -> mesh axes.
ACTIVATION_AXES = {
  "batch": ("data", "fsdp"),
  "frames": ("data", "fsdp", "seq"),  # Frames are the batch of the encoder.
  "seq": "seq",
  "heads": "tensor",
  "kv_heads": "tensor",
  "mlp": "tensor",
  "-": None,
}


def spec(dims: str, axes=None) -> P:
  """spec("batch seq -") == P(("data", "fsdp"), "seq", None)."""
  return P(*((axes or ACTIVATION_AXES)[d] for d in dims.split()))


def constrain(x: jax.Array, dims: str) -> jax.Array:
  """Lays an activation on the mesh in use: constrain(x, "batch seq -"). Nothing without a mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, spec(dims))


def parameter_spec(table: Sequence[tuple[str, str]], path: str, shape: tuple[int, ...]) -> P:
  """The layout of one parameter: the first row of `table` (regex, words) found in its path.

  A parameter with one dimension more than its row has words is stacked over layers.
  """
  for pattern, dims in table:
    if re.search(pattern, path):
      stacked = len(shape) - len(dims.split())
      if stacked not in (0, 1):
        raise ValueError(f"{path} has shape {shape}, but its DIMS row {pattern!r} says {dims!r}.")
      return spec("layers " * stacked + dims, PARAMETER_AXES)
  raise ValueError(f"No row of DIMS covers {path} {shape}. Add one to the file that makes it.")


def by_axis(table: Sequence[tuple[str, str]], params: PyTree, dtype) -> PyTree:
  """The parameters of a layer, those that lie over fsdp and seq cast to `dtype` and made whole
  over seq, for the layer to gather over fsdp.

  One axis at a time, as in filax.parallel.gather: over both at once, XLA sums gradients whole on
  every chip of a large slice, and on three-dimensional tori it even gathers by sums.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.shape["seq"] == 1:
    return params

  def one(path, leaf):
    layout = parameter_spec(table, leaf_path(path), leaf.shape)
    if ("fsdp", "seq") not in layout:
      return leaf
    layout = P(*("fsdp" if axes == ("fsdp", "seq") else axes for axes in layout))
    return jax.lax.with_sharding_constraint(leaf.astype(dtype), layout)

  return jax.tree_util.tree_map_with_path(one, params)


def parameter_shardings(table: Sequence[tuple[str, str]], params: PyTree, mesh: Mesh) -> PyTree:
  """A NamedSharding for every leaf (array or ShapeDtypeStruct) of `params`."""

  def one(path, leaf):
    path = leaf_path(path)
    layout = parameter_spec(table, path, leaf.shape)
    check_divides(path, leaf.shape, layout, mesh)
    return NamedSharding(mesh, layout)

  return jax.tree_util.tree_map_with_path(one, params)


def leaf_path(path) -> str:
  """A key path of jax.tree_util as "llm/layers/mlp/up_proj/kernel"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def check_divides(path: str, shape: tuple[int, ...], layout: P, mesh: Mesh) -> None:
  """Raises ValueError naming the knob if a dimension does not split evenly over its axes."""
  for size, axes in zip(shape, layout, strict=False):
    axes = axes if isinstance(axes, tuple) else (axes,)
    ways = math.prod(mesh.shape[a] for a in axes if a)
    if size % ways:
      fits = [n for n in range(1, ways) if size % n == 0]
      raise ValueError(
        f"{path} {shape}: {size} does not split {ways} ways over mesh axis {'*'.join(axes)}. Set "
        f"config.mesh.{axes[-1]} so that the product is one of {fits}."
      )
