# SPDX-License-Identifier: Apache-2.0
"""Trees of arrays as dicts of paths, and their differences."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import traverse_util
import jax
from jaxtyping import PyTree

from filax.parallel.rules import leaf_path


def flatten_tree(tree: PyTree) -> dict[str, Any]:
  """ "llm/norm/scale" -> leaf."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {leaf_path(path): leaf for path, leaf in leaves}


def unflatten_tree(leaves: Mapping[str, Any]) -> dict:
  """The inverse of `flatten_tree`, for trees of dicts."""
  return traverse_util.unflatten_dict(leaves, sep="/")


def select_leaves(leaves: Mapping[str, Any], is_chosen: Callable[[str], bool]) -> dict[str, Any]:
  """The leaves whose path is chosen."""
  selected = {}
  for path, leaf in leaves.items():
    if is_chosen(path):
      selected[path] = leaf
  return selected


def leaf_shapes(leaves: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Path -> shape of every leaf."""
  return {path: leaf.shape for path, leaf in leaves.items()}


def compare_shapes(wanted: Mapping[str, tuple], stored: Mapping[str, tuple]) -> tuple[list, list]:
  """(missing, extra) leaves of a checkpoint.

  Raises ValueError if a shared leaf's shape differs.
  """
  for path in sorted(wanted.keys() & stored.keys(), reverse=True):  # params before opt.
    shape = tuple(wanted[path])
    stored_shape = tuple(stored[path])
    if shape != stored_shape:
      raise ValueError(
        f"{path} has shape {stored_shape} in the checkpoint but {shape} in config.model. Use the "
        "config that the checkpoint was trained with, or change config.model or config.init_from."
      )
  missing = sorted(wanted.keys() - stored.keys())
  extra = sorted(stored.keys() - wanted.keys())
  return missing, extra
