# SPDX-License-Identifier: Apache-2.0
"""Reads parameters of a checkpoint of adapters together with its base.

A parameter that the checkpoint stores is read from it, every other one from its base. The base may
itself be a checkpoint of adapters. Adapters that are not among the wanted parameters are merged
into their kernels.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from etils import epath
import jax

from filax.checkpoint.base import BaseReference, reading_base
from filax.checkpoint.tree import select_leaves
from filax.models import lora

Leaves = Mapping[str, Any]  # Path of a parameter -> array, or its shape.


@dataclasses.dataclass(frozen=True)
class StoredParams:
  """The parameters that one step stores, and the base of the others."""

  leaves: Leaves  # Path -> shape and dtype.
  base: BaseReference | None
  read: Callable[[Leaves], dict[str, Any]]  # Reads some of the leaves.


Opener = Callable[[epath.Path], StoredParams]  # Opens a base.


def effective_leaves(stored: StoredParams, open_step: Opener) -> dict[str, Any]:
  """The parameters of a step and its bases, adapters merged."""
  leaves = {}
  if stored.base is not None:
    base_step = stored.base.locate()
    with reading_base(base_step):
      leaves.update(effective_leaves(open_step(base_step), open_step))
  for path, leaf in stored.leaves.items():
    if not lora.is_adapter(path):
      leaves[path] = leaf
  return leaves


def read_params(
  stored: StoredParams, wanted: Leaves, open_step: Opener
) -> tuple[dict[str, Any], list[str]]:
  """(leaves, unused paths) of a step and its bases.

  wanted: shapes, with shardings or for the first device. What no step has is left out.
  """
  present = select_leaves(wanted, stored.leaves.__contains__)
  leaves = stored.read(present)
  unused = set(stored.leaves) - set(present)
  merging = _kernels_to_merge(stored, wanted)
  for kernel in merging:
    unused -= {lora.adapter_name(kernel, name) for name in lora.NAMES}
  if stored.base is None:
    for kernel in merging:
      _merge(leaves, kernel, wanted[kernel], stored)
    return leaves, sorted(unused)
  base_step = stored.base.locate()
  base = open_step(base_step)
  from_base = select_leaves(wanted, lambda path: path not in stored.leaves)
  below = {}
  for kernel in lora.adapted_kernels(stored.leaves):
    if kernel not in from_base:
      continue
    below.update(_adapters_below(base, kernel, open_step))
  with reading_base(base_step):
    base_leaves, base_unused = read_params(base, {**below, **from_base}, open_step)
  for path in from_base:
    if path in base_leaves:
      leaves[path] = base_leaves[path]
  unused |= set(base_unused) - set(stored.leaves)
  for kernel in merging:
    if kernel in leaves:
      _merge(leaves, kernel, wanted[kernel], stored)
  return leaves, sorted(unused)


def _kernels_to_merge(stored: StoredParams, wanted: Leaves) -> list[str]:
  """The wanted kernels whose stored adapters are not wanted themselves."""
  kernels = []
  for kernel in lora.adapted_kernels(stored.leaves):
    if kernel in wanted and lora.adapter_name(kernel, lora.A) not in wanted:
      kernels.append(kernel)
  return kernels


def _adapters_below(base: StoredParams, kernel: str, open_step: Opener) -> dict[str, Any]:
  """Shapes of a kernel's adapters in a base.

  Asking for them keeps them from being merged.

  The adapters above continue those below.
  """
  shapes = {}
  step: StoredParams | None = base
  while step is not None:
    for name in lora.NAMES:
      path = lora.adapter_name(kernel, name)
      if path in step.leaves:
        leaf = step.leaves[path]
        shapes[path] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    step = open_step(step.base.locate()) if step.base is not None else None
  return shapes


def _merge(leaves: dict[str, Any], kernel: str, like: Any, stored: StoredParams) -> None:
  """Adds the stored adapters of a kernel to it.

  like: the shape and sharding of the result."""
  sharding = getattr(like, "sharding", None)
  everywhere = None
  if isinstance(sharding, jax.sharding.NamedSharding):
    everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.P())
  shapes = {}
  for name in lora.NAMES:
    path = lora.adapter_name(kernel, name)
    leaf = stored.leaves[path]
    shapes[path] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)
  adapters = list(stored.read(shapes).values())
  merge = jax.jit(lora.merge_kernel, out_shardings=sharding, donate_argnums=0)
  leaves[kernel] = merge(leaves[kernel], *adapters)
