# SPDX-License-Identifier: Apache-2.0
"""Reads parameters of which some kernels are quantised, one kernel at a time."""

from collections.abc import Mapping
import contextlib
from typing import Any

from etils import epath
import jax

from filax.checkpoint import steps, store
from filax.checkpoint.tree import flatten_tree, select_leaves, unflatten_tree
from filax.models import lora, quantised
from filax.models.lora import KERNEL, DenseKernel

Leaves = dict[str, jax.Array]  # By path.


def read_coded(
  path: epath.PathLike,
  wanted: Mapping[str, Any],
  kernels: Mapping[str, DenseKernel],
  kind: str,
) -> tuple[Leaves, list[str], list[str]]:
  """(leaves, missing, extra) of a run or of one step, as store.restore_params.

  wanted: path -> shape; codes and scales in place of `kernels`, which are read in float32, one by
  one, and quantised as `kind`. A kernel that is missing is listed itself. All come from one step,
  also if the run goes on meanwhile.
  """
  if not kernels:
    params, missing, extra = store.restore_params(path, unflatten_tree(wanted))
    return flatten_tree(params), missing, extra
  for step in steps.steps_to_try(path):
    with contextlib.suppress(store.NoCheckpoint):  # It is damaged, or its run has removed it.
      return _read_step(step, wanted, kernels, kind)
  raise store.no_checkpoint(path)


def _read_step(
  path: epath.Path,
  wanted: Mapping[str, Any],
  kernels: Mapping[str, DenseKernel],
  kind: str,
) -> tuple[Leaves, list[str], list[str]]:
  """`read_coded` of one step."""
  plain = select_leaves(wanted, lambda name: not quantised.is_code(name))
  params, missing, extra = store.restore_params(path, unflatten_tree(plain))
  leaves = flatten_tree(params)
  for kernel_path, kernel in kernels.items():
    codes = beside(kernel_path, quantised.CODES)
    if codes not in wanted:
      continue
    sharding = getattr(wanted[codes], "sharding", None)
    group = {kernel_path: jax.ShapeDtypeStruct(kernel.shape, "float32", sharding=sharding)}
    for name in lora.NAMES:  # Adapters that are wanted themselves are not merged.
      if beside(kernel_path, name) in wanted:
        group[beside(kernel_path, name)] = wanted[beside(kernel_path, name)]
    tree, absent, _ = store.restore_params(path, unflatten_tree(group))
    if kernel_path in absent:
      missing = [*missing, kernel_path]
    else:
      x = flatten_tree(tree)[kernel_path]
      leaves.update(_quantise(kernel_path, x, kernel, kind, wanted))
  extra = [name for name in extra if name not in kernels]
  return leaves, missing, extra


def beside(kernel_path: str, name: str) -> str:
  """Path of a kernel -> that of a parameter beside it."""
  return kernel_path.removesuffix(KERNEL) + name


def _quantise(
  path: str, x: jax.Array, kernel: DenseKernel, kind: str, wanted: Mapping[str, Any]
) -> Leaves:
  """Codes and scales of a kernel, laid out as `wanted` says."""
  names = (quantised.CODES, quantised.SCALES)
  shardings = {name: getattr(wanted[beside(path, name)], "sharding", None) for name in names}

  def quantise(x):
    return quantised.quantise(x, kernel, kind)

  codes = jax.jit(quantise, out_shardings=shardings)(x)
  return {beside(path, name): codes[name] for name in names}
