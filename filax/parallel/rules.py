# SPDX-License-Identifier: Apache-2.0
"""Sharding rules, in two steps.

1. The table DIMS of a component maps the path of a parameter to dimension words, by regex.
2. The tables below map dimension words to mesh axes.

Activations are described by dimension words directly: constrain(x, "batch seq -").
"""

from collections.abc import Callable, Sequence
import math
import re

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

MESH = ("data", "fsdp", "seq", "tensor")  # Always these four axes; a config only sets their sizes.

# Dimension word of a parameter -> mesh axes. None = not sharded.
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
# Dimension word of an activation -> mesh axes.
ACTIVATION_AXES = {
  "batch": ("data", "fsdp"),
  "frames": ("data", "fsdp", "seq"),  # Frames are the batch of the encoder.
  "seq": "seq",
  "heads": "tensor",
  "kv_heads": "tensor",
  "mlp": "tensor",
  "-": None,
}


def partition_spec(dims: str, axes=None) -> P:
  """The PartitionSpec of dimension words.

  axes: the table of mesh axes; by default that of activations.

  partition_spec("batch seq -") == P(("data", "fsdp"), "seq", None)
  """
  table = axes or ACTIVATION_AXES
  return P(*map(table.__getitem__, dims.split()))


def constrain(x: jax.Array, dims: str) -> jax.Array:
  """Shards an activation over the mesh in use: constrain(x, "batch seq -").

  Without a mesh, it is returned unchanged.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, partition_spec(dims))


def parameter_spec(table: Sequence[tuple[str, str]], path: str, shape: tuple[int, ...]) -> P:
  """The PartitionSpec of a parameter, by the first row that matches.

  table: rows of (regex, dimension words). If a parameter has one dimension more than its row has
  words, it is stacked over layers. The adapters, codes and scales of a kernel need no row, because
  they are sharded like the kernel.
  """
  kernel_path, words_of = _beside_kernel(path)
  for pattern, row_words in table:
    if re.search(pattern, kernel_path) is None:
      continue
    dims = words_of(row_words)
    stacked = len(shape) - len(dims.split())
    if stacked not in (0, 1):
      raise ValueError(f"{path} has shape {shape}, but its DIMS row {pattern!r} says {dims!r}.")
    words = f"layers {dims}" if stacked else dims
    return partition_spec(words, PARAMETER_AXES)
  raise ValueError(f"No row of DIMS covers {path} {shape}. Add one to the file that makes it.")


def _beside_kernel(path: str) -> tuple[str, Callable[[str], str]]:
  """The kernel of a parameter, and how their words are related.

  Returns the path of the kernel, and the function from its words to those of the parameter. A
  parameter that is not an adapter, code or scale belongs to itself.
  """
  for ending, words_of in _BESIDE_KERNEL.items():
    if path.endswith(f"/kernel_{ending}"):
      return path.removesuffix(f"_{ending}"), words_of
  return path, _same_words


def _same_words(dims: str) -> str:
  return dims


def _input_words(dims: str) -> list[str]:
  """The words of a kernel's input dimensions.

  They are all but the last word, or all but the last two if the output is divided into heads.
  """
  words = dims.split()
  outputs = 2 if words[-1] == "head_dim" else 1
  return words[:-outputs]


def _output_words(dims: str) -> list[str]:
  return dims.split()[len(_input_words(dims)) :]


def _words_of_a(dims: str) -> str:
  return " ".join([*_input_words(dims), "-"])


def _words_of_b(dims: str) -> str:
  return " ".join(["-", *_output_words(dims)])


def _words_of_scales(dims: str) -> str:
  """The words of scales.

  Scales have few values along the inputs, so they are not split there.
  """
  unsplit = ["-"] * len(_input_words(dims))
  return " ".join([*unsplit, *_output_words(dims)])


def _no_words(dims: str) -> str:
  del dims
  return ""


# Ending of a parameter that belongs to a kernel (filax.models.lora and .quantised) -> function from
# the words of the kernel to its own.
_BESIDE_KERNEL = {
  "lora_a": _words_of_a,
  "lora_b": _words_of_b,
  "lora_scale": _no_words,
  "codes": _same_words,
  "scales": _words_of_scales,
}


def by_axis(table: Sequence[tuple[str, str]], params: PyTree, dtype) -> PyTree:
  """Casts parameters sharded over (fsdp, seq); gathers them over seq.

  The layer then gathers them over fsdp. The axes are gathered one at a time, as in
  filax.parallel.gather. Over both axes at once, XLA would sum whole gradients on every chip of a
  large slice, and on three-dimensional tori it would even gather by sums.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.shape["seq"] == 1:
    return params

  def gather_over_seq(path, leaf):
    layout = list(parameter_spec(table, leaf_path(path), leaf.shape))
    if ("fsdp", "seq") not in layout:
      return leaf
    layout[layout.index(("fsdp", "seq"))] = "fsdp"
    if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):  # Codes stay codes.
      leaf = leaf.astype(dtype)
    return jax.lax.with_sharding_constraint(leaf, P(*layout))

  return jax.tree_util.tree_map_with_path(gather_over_seq, params)


def parameter_shardings(table: Sequence[tuple[str, str]], params: PyTree, mesh: Mesh) -> PyTree:
  """The NamedSharding of every leaf (array or ShapeDtypeStruct) of `params`."""

  def sharding(path, leaf):
    name = leaf_path(path)
    layout = parameter_spec(table, name, leaf.shape)
    check_divides(name, leaf.shape, layout, mesh)
    return NamedSharding(mesh, layout)

  return jax.tree_util.tree_map_with_path(sharding, params)


def leaf_path(path) -> str:
  """A key path of jax.tree_util as "llm/layers/mlp/up_proj/kernel"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def check_divides(path: str, shape: tuple[int, ...], layout: P, mesh: Mesh) -> None:
  """Raises ValueError if a dimension does not divide over its axes."""
  for size, axes in zip(shape, layout, strict=False):
    if axes is None:
      continue
    names = axes if isinstance(axes, tuple) else (axes,)
    parts = math.prod(mesh.shape[name] for name in names)
    if size % parts == 0:
      continue
    fits = [count for count in range(1, parts) if size % count == 0]
    raise ValueError(
      f"{path} {shape}: {size} does not split {parts} ways over mesh axis {'*'.join(names)}. Set "
      f"config.mesh.{names[-1]} so that the product is one of {fits}."
    )


def device_bytes(tree: PyTree) -> float:
  """Bytes of a tree on one device, from its shapes and shardings."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    shard = leaf.sharding.shard_shape(leaf.shape)
    total += math.prod(shard) * leaf.dtype.itemsize
  return float(total)
