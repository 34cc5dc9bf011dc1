# SPDX-License-Identifier: Apache-2.0
"""Parameters whose layers are arrays of their own, for answering on a CPU or a GPU.

XLA copies a layer's part of a stacked array before it multiplies with it, for every token. With
layers apart it reads the weights where they lie (filax.models.stack.Stack). On an H200 the copies
took half of the time of a token of a 7B.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

_GROUP = 1 << 26  # Bytes of stacked arrays that are split at once.


def layers_apart(params: Mapping[str, Any], *, free: bool = False) -> dict[str, Any]:
  """Parameters of a VideoLM with the llm's layers apart.

  `llm/layers/...` [layers ...] becomes `llm/layers/<number>/...`. `free` deletes each stacked array
  as soon as its layers are apart, so that memory holds the parameters once. Parameters that are
  apart already, and llms without stacked layers, stay as they are.
  """
  llm = params["llm"]
  stacked = llm.get("layers", {})
  if not stacked or "0" in stacked:
    return dict(params)
  leaves, structure = jax.tree.flatten(stacked)
  by_leaf: list[tuple[jax.Array, ...]] = []
  for group in _groups(leaves):
    parts = _parts(group)
    by_leaf += parts
    if free:
      jax.block_until_ready(parts)
      _delete(group)
  layers = {}
  for number, parts in enumerate(zip(*by_leaf, strict=True)):
    layers[str(number)] = jax.tree.unflatten(structure, parts)
  return dict(params) | dict(llm=dict(llm) | dict(layers=layers))


def _groups(leaves: Iterable[jax.Array]) -> Iterator[list[jax.Array]]:
  """Neighbouring leaves, together up to _GROUP bytes.

  Each group is a program to trace.
  """
  group: list[jax.Array] = []
  size = 0
  for leaf in leaves:
    nbytes = leaf.size * leaf.dtype.itemsize
    if group and size + nbytes > _GROUP:
      yield group
      group = []
      size = 0
    group.append(leaf)
    size += nbytes
  yield group


@jax.jit
def _parts(group: list[jax.Array]) -> list[tuple[jax.Array, ...]]:
  """The layers of each of several stacked arrays."""
  return [tuple(stacked[number] for number in range(stacked.shape[0])) for stacked in group]


def _delete(group: Iterable[jax.Array]) -> None:
  """Frees the leaves that are arrays; shapes have no memory to free."""
  for leaf in group:
    if isinstance(leaf, jax.Array):
      leaf.delete()


def answering_params(
  params: Mapping[str, Any], mesh: jax.sharding.Mesh | None = None, *, free: bool = False
) -> dict[str, Any]:
  """Parameters in the form that answers on this device need.

  On a CPU and on a GPU, the layers are apart. A mesh keeps its layers stacked, with the layout of
  their axes.
  """
  if mesh is None and jax.default_backend() in ("cpu", "gpu"):
    return layers_apart(params, free=free)
  return dict(params)


def stacked_leaves(params: Mapping[str, Any]) -> Iterator[tuple[str, jax.Array]]:
  """(key path, leaf) of parameters, as with stacked layers in either arrangement.

  Layers apart are stacked one leaf at a time.
  """
  llm = params.get("llm", {})
  layers = llm.get("layers", {})
  if "0" not in layers:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
      yield jax.tree_util.keystr(path), leaf
    return
  numbers = range(len(layers))
  columns = zip(*(jax.tree.leaves(layers[str(number)]) for number in numbers), strict=True)
  template = dict(params) | dict(llm=dict(llm) | dict(layers=layers["0"]))
  for path, leaf in jax.tree_util.tree_leaves_with_path(template):
    name = jax.tree_util.keystr(path)
    if name.startswith("['llm']['layers']"):
      yield name, jnp.stack(next(columns))
    else:
      yield name, leaf
