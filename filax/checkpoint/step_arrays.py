# SPDX-License-Identifier: Apache-2.0
"""Reads the arrays of one checkpoint, each compared with its digest."""

from collections.abc import Mapping
import functools
from typing import Any

from etils import epath
import jax
from jaxtyping import PyTree
import orbax.checkpoint as ocp

from filax.checkpoint import averages, base, merged, orbax_items, record, verify
from filax.checkpoint.record import Damaged, Record
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.parallel import agreement


class OtherArrays(ValueError):
  """A checkpoint whose arrays are not those of the config.

  config: that of the checkpoint.
  """

  def __init__(self, difference: str, step: epath.Path, config: Mapping[str, Any]):
    super().__init__(difference)
    self.step = step
    self.config = config


def open_params(path: epath.Path) -> merged.StoredParams:
  """The parameters that a step stores. Raises Damaged."""
  return _open_params(path, is_base=False)


def open_base(path: epath.Path) -> merged.StoredParams:
  """The parameters that the base of adapters stores. Raises Damaged."""
  return _open_params(path, is_base=True)


def _open_params(path: epath.Path, is_base: bool) -> merged.StoredParams:
  written, _, stored = header(path)
  stored = _below_params(stored)
  read = functools.partial(_read_leaves, path, written, stored, is_base)
  return merged.StoredParams(stored, base.reference_of(written), read)


def _read_leaves(
  path: epath.Path,
  written: Record,
  stored: Mapping[str, Any],
  is_base: bool,
  wanted: Mapping[str, Any],
) -> dict[str, Any]:
  """Stored leaves, or their averages, with the dtypes and shardings of `wanted`."""
  casts = False
  sources = {}  # Path -> array of the checkpoint, with its shape, dtype and sharding.
  for name, leaf in wanted.items():
    tree = averages.tree_of(name, written["digests"], is_base)
    dtype = averages.DTYPE if tree == averages.AVERAGE else stored[name].dtype
    sources[name] = (f"{tree}/{name}", _placed(leaf, dtype))
    casts = casts or leaf.dtype != dtype
  groups = [[name] for name in wanted] if casts else [list(wanted)]  # Casting holds a leaf twice.
  params = {}
  for group in groups if wanted else []:
    target = dict(sources[name] for name in group)
    arrays = flatten_tree(read_arrays(path, unflatten_tree(target), written))
    for name in group:
      source, _ = sources[name]
      params[name] = arrays[source].astype(wanted[name].dtype)
  return params


def _below_params(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """The leaves below params/, by their path from there."""
  below = {}
  for name, leaf in leaves.items():
    if name.startswith("params/"):
      below[name.removeprefix("params/")] = leaf
  return below


def _placed(leaf, dtype):
  """A leaf to read as `dtype`.

  On the first device unless it has a sharding.
  """
  sharding = getattr(leaf, "sharding", None)
  if not sharding:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)


def header(path: epath.Path) -> tuple[Record, dict[str, Any], dict[str, Any]]:
  """(record, config, path -> metadata of every leaf), checked against each other.

  Raises Damaged on all processes if one of them reads it so.
  """
  failure = ""
  content = None
  try:
    content = _header(path)
  except Damaged as error:
    failure = str(error)
  failures = agreement.share_texts(failure)
  for process, text in enumerate(failures):
    if text:
      raise Damaged(failure or f"process {process} finds that {text}")
  assert content is not None
  return content


def _header(path: epath.Path) -> tuple[Record, dict[str, Any], dict[str, Any]]:
  """`header`, as this process reads it."""
  written, config = record.read_record(path)
  with record.damage("its list of arrays cannot be read"):
    stored = flatten_tree(orbax_items.array_handler().metadata(path / "state").tree)
  record.check_leaves(written, stored)
  return written, config, stored


def read_arrays(path: epath.Path, target: PyTree, written: Record) -> PyTree:
  """The leaves of `target` (shapes and shardings), each compared with its digest."""
  restore_args = ocp.checkpoint_utils.construct_restore_args(target)
  args = ocp.args.PyTreeRestore(target, restore_args=restore_args, partial_restore=True)
  tree = None
  failure = ""
  try:
    with record.damage("an array cannot be read"):
      tree = orbax_items.array_handler().restore(path / "state", args=args)
  except Damaged as error:
    failure = str(error)
  arrays = None if tree is None else flatten_tree(tree)
  verify.check_digests(written["digests"], flatten_tree(target), arrays, failure)
  return tree


def check_same_leaves(
  path: epath.Path,
  config: Mapping[str, Any],
  wanted: Mapping[str, Any],
  stored: Mapping[str, Any],
) -> None:
  """Compares the leaves of a checkpoint with the wanted ones.

  config: that of the checkpoint. Raises OtherArrays if names, shapes or dtypes differ.
  """
  difference = _first_difference(wanted, stored)
  if difference:
    raise OtherArrays(difference, path, config)


def _first_difference(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
  """The first difference between leaves, in words; "" if there is none.

  Averages may be there for others to read.
  """
  for name in sorted(wanted.keys() & stored.keys(), reverse=True):  # params before opt.
    shape = tuple(stored[name].shape)
    leaf = wanted[name]
    if tuple(leaf.shape) != shape:
      return f"{name} has shape {shape} in it but {tuple(leaf.shape)} in config.model"
    if leaf.dtype != stored[name].dtype:
      return f"{name} is {stored[name].dtype} in it but {leaf.dtype} in config.model"
  missing = sorted(wanted.keys() - stored.keys())
  if missing:
    return f"it has no {missing[0]}"
  for name in sorted(stored.keys() - wanted.keys()):
    if not name.startswith(f"{averages.AVERAGE}/"):
      return f"it has {name} too much"
  return ""
