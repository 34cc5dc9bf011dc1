# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of parameters alone, written and read layer by layer.

Orbax's own writer needs whole leaves three times in memory; this one writes the same format (OCDBT
and zarr3) slice by slice with TensorStore. It writes step 0 of a run without an optimizer, which
filax.checkpoint.store reads like any other. A chunk is a layer, or a piece of one along the
dimensions that meshes split, so that a host that restores its shards reads only those.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import math
import os
from pathlib import Path
from typing import Any

from etils import epath
import numpy as np

from filax import files
from filax.checkpoint import digest, record, run_folder, safe_files, storage
from filax.checkpoint.averages import PARAMS
from filax.checkpoint.base import BaseReference
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.parallel import rules

_CONTEXT = {"cache_pool": {"total_bytes_limit": 0}}  # Nothing stays in memory after a write.
_CUTS = {"fsdp": 16, "tensor": 4}  # Mesh axis -> most pieces of a dimension that lies on it.
_SMALL = 1 << 16  # Bytes up to which a layer is not cut.


class ParameterWriter:
  """Writes step 0 of `workdir`: `leaf` for every parameter, then `finish`."""

  def __init__(self, workdir: str | os.PathLike, table: Sequence[tuple[str, str]] = ()):
    """Starts step 0 of `workdir`.

    table: rows of DIMS (components.dims_table); a parameter without a row is not cut.
    """
    import tensorstore as ts

    self.step = Path(files.absolute(workdir)) / run_folder.CHECKPOINTS / "0"
    self.state = self.step / "state"
    self.state.mkdir(parents=True)
    self.leaves: dict[str, LeafWriter] = {}
    self._table = table
    self._context = ts.Context(_CONTEXT)

  def leaf(
    self,
    path: str,
    shape: tuple[int, ...],
    dtype,
    stacked: bool,
  ) -> "LeafWriter":
    """A writer for one parameter, such as "llm/norm/scale".

    It is written at once, or by slices of its first axis.
    """
    import tensorstore as ts

    dtype = np.dtype(dtype)
    chunk = chunk_shape(self._table, path, shape, dtype.itemsize, stacked)
    path = f"params/{path}"
    spec = _array_spec(self.state, path)
    spec["metadata"] = {
      "shape": list(shape),
      "data_type": dtype.name,
      "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
      "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    array = ts.open(spec, create=True, open=True, context=self._context).result()
    leaf = LeafWriter(dtype, tuple(shape), array)
    self.leaves[path] = leaf
    return leaf

  def finish(self, config: Mapping[str, Any], base: BaseReference | None = None) -> Path:
    """Writes tree description, digests and config; returns the step.

    base: the checkpoint of the parameters that are not written.
    """
    tree = json.dumps(_tree_metadata(self.leaves))
    (self.state / "_METADATA").write_text(tree)
    plain_config = json.loads(json.dumps(dict(config)))
    self._write_items(plain_config)
    facts = record.make_record(0, 0, "", plain_config)
    if base is not None:
      facts |= dict(format=record.FORMAT_WITH_BASE, base=base.as_record())
    facts["digests"] = {path: leaf.digest() for path, leaf in self.leaves.items()}
    record.write_record(self.step / "data", facts)
    return self.step

  def _write_items(self, config: dict[str, Any]) -> None:
    """Lets Orbax write the items `config` and `data` beside the arrays."""
    import orbax.checkpoint as ocp

    folder = self.step.parent / "items"
    items = ocp.args.Composite(data=ocp.args.JsonSave({}), config=ocp.args.JsonSave(config))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      checkpointer.save(folder, items)
    for path in folder.iterdir():
      path.rename(self.step / path.name)
    folder.rmdir()


class LeafWriter:
  """Writes one parameter: `leaf[i] = layer`, or `leaf[...] = array`."""

  def __init__(self, dtype: np.dtype, shape: tuple[int, ...], array):
    self._dtype = dtype
    self._shape = shape
    self._array = array
    self._sum = 0

  def __setitem__(self, index, x: np.ndarray) -> None:
    x = np.ascontiguousarray(x).reshape(np.shape(x))  # NumPy makes a scalar 1-D.
    self._sum += slice_sum(x, index, self._shape)
    self._array[index].write(x, can_reference_source_data_indefinitely=True).result()

  def digest(self) -> str:
    """The digest of everything written."""
    return digest.digest_text(self._dtype, self._shape, self._sum)


def chunk_shape(
  table: Sequence[tuple[str, str]],
  path: str,
  shape: tuple[int, ...],
  itemsize: int,
  stacked: bool,
) -> tuple[int, ...]:
  """The shape of a stored chunk.

  A layer, cut along the dimensions that a mesh may split.
  """
  layer = (1, *shape[1:]) if stacked else shape
  if not table or math.prod(layer) * itemsize <= _SMALL:
    return layer
  chunk = []
  partition = rules.parameter_spec(table, path, shape)
  for size, axes in zip(layer, partition, strict=True):
    if isinstance(axes, str):
      axes = (axes,)
    pieces = max((_CUTS.get(axis, 1) for axis in axes or ()), default=1)
    chunk.append(size // math.gcd(size, pieces))
  return tuple(chunk)


def slice_sum(
  x: np.ndarray,
  index,
  shape: tuple[int, ...],
  mix: digest.Mix | None = None,
) -> int:
  """The share of `array[index] = x` in an array's digest sum."""
  if index is Ellipsis:
    start = (0,) * len(shape)
    return digest.box_sum(x.reshape(shape), start, shape, mix)
  start = (index,) + (0,) * (len(shape) - 1)
  layer = x.reshape(1, *shape[1:])
  return digest.box_sum(layer, start, shape, mix)


def absolute(path: str | os.PathLike) -> Path | epath.Path:
  """The absolute path, which Orbax needs; URLs stay unchanged.

  Raises OSError for a bucket that does not answer.
  """
  storage.check_reachable(path)
  path = files.absolute(path)
  return epath.Path(path) if "://" in path else Path(path)


def step_folder(path: str | os.PathLike) -> Path | epath.Path:
  """The newest step folder of a run; a step folder itself.

  Raises FileNotFoundError if there is none, ValueError if a local step holds a pipe or a device.
  """
  path = absolute(path)
  for step in run_folder.step_folders(path):
    if (step / "state").exists():
      safe_files.check_checkpoint(step)
      return step
  raise FileNotFoundError(
    f"There is no checkpoint in {path}. Give --checkpoint the folder of a run or of a step."
  )


def read_json(step: Path | epath.Path, name: str) -> dict[str, Any]:
  """The item `config` or `data` of a step, checked.

  Raises ValueError if it is damaged.
  """
  step = absolute(step)
  try:
    data, config = record.read_record(step)
  except record.Damaged as error:
    raise ValueError(f"{step} is damaged: {error}") from error
  return config if name == "config" else data


def shapes(step: Path | epath.Path) -> dict[str, Any]:
  """Path -> Orbax metadata (shape, dtype) of every parameter of a step.

  Raises ValueError if the step is damaged.
  """
  import orbax.checkpoint as ocp

  step = absolute(step)
  data = read_json(step, "data")
  try:
    with record.damage("its list of arrays cannot be read"):
      tree = ocp.PyTreeCheckpointHandler().metadata(step / "state").tree
      leaves = flatten_tree({"params": tree["params"]})
    record.check_leaves(data, leaves, "params/")
  except record.Damaged as error:
    raise ValueError(f"{step} is damaged: {error}") from error
  return {path.removeprefix("params/"): leaf for path, leaf in sorted(leaves.items())}


def read_parameter(
  step: Path | epath.Path,
  path: str,
  expected: str | int | None = None,
  tree: str = PARAMS,
) -> np.ndarray:
  """Reads one parameter and checks its digest.

  expected: its digest; default: that of the step's record. tree: "params" or "average". Raises
  ValueError if the parameter is damaged or its digest differs.
  """
  import orbax.checkpoint as ocp

  step = absolute(step)
  full_path = f"{tree}/{path}"
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  args = ocp.args.PyTreeRestore(
    unflatten_tree({full_path: 0}),
    restore_args=unflatten_tree({full_path: as_numpy}),
    partial_restore=True,
  )
  expected = _expected_digest(step, full_path, expected)
  try:
    arrays = ocp.PyTreeCheckpointHandler().restore(step / "state", args=args)
  except Exception as error:  # TensorStore raises many types of errors for it.
    raise _unreadable(step, path, error) from error
  x = flatten_tree(arrays)[full_path]
  total = slice_sum(x, ..., x.shape, record.mix_of(expected))
  if not record.matches(expected, x.dtype, x.shape, total):
    raise _wrong_digest(step, path)
  return x


def read_layers(
  step: Path | epath.Path,
  path: str,
  expected: str | int | None = None,
  tree: str = PARAMS,
) -> Iterator[np.ndarray]:
  """Yields the layers of a stacked parameter.

  One layer is held at a time if `ParameterWriter` wrote the checkpoint. expected, tree: as in
  `read_parameter`. Raises ValueError if it is damaged; a wrong digest is noticed after the last
  layer.
  """
  import tensorstore as ts

  step = absolute(step)
  full_path = f"{tree}/{path}"
  spec = _array_spec(step / "state", full_path)
  try:
    array = ts.open(spec, open=True).result()
  except ValueError:  # Training writes zarr2, in chunks as large as its shards.
    yield from read_parameter(step, path, expected, tree)
    return
  expected = _expected_digest(step, full_path, expected)
  mix = record.mix_of(expected)
  total = 0
  for i in range(array.shape[0]):
    try:
      layer = array[i].read().result()
    except Exception as error:  # As in `read_parameter`.
      raise _unreadable(step, path, error) from error
    total += slice_sum(layer, i, array.shape, mix)
    yield layer
  if not record.matches(expected, array.dtype.numpy_dtype, array.shape, total):
    raise _wrong_digest(step, path)


def _expected_digest(step: Path, path: str, expected: str | int | None) -> str | int:
  if expected is not None:
    return expected
  digests = read_json(step, "data")["digests"]
  return digests.get(path, "")


def _wrong_digest(step: Path, path: str) -> ValueError:
  return ValueError(f"{path} of {step} is not what was written (its digest differs).")


def _unreadable(step: Path, path: str, error: Exception) -> ValueError:
  reason = " ".join(str(error).split())[:200]
  return ValueError(f"{path} of {step} cannot be read ({reason}).")


def _array_spec(state: Path | epath.Path, path: str) -> dict[str, Any]:
  """The TensorStore spec of one array of a checkpoint."""
  base = f"{state}/" if "://" in str(state) else f"file://{state}/"
  return {
    "driver": "zarr3",
    "store_data_equal_to_fill_value": True,  # Orbax treats gaps as damage.
    "kvstore": {
      "driver": "ocdbt",
      "base": base,
      "path": path.replace("/", ".") + "/",
      "config": {"max_inline_value_bytes": 1024, "max_decoded_node_bytes": 100_000_000},
    },
  }


def _tree_metadata(paths) -> dict[str, Any]:
  """The tree description that Orbax reads before the arrays."""
  leaves = {}
  for path in paths:
    keys = path.split("/")
    leaves[str(tuple(keys))] = {
      "key_metadata": [{"key": key, "key_type": 2} for key in keys],
      "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
    }
  return {
    "tree_metadata": leaves,
    "use_ocdbt": True,
    "use_zarr3": True,
    "store_array_data_equal_to_fill_value": True,
    "custom_metadata": None,
  }
