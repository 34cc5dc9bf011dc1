# SPDX-License-Identifier: Apache-2.0
"""A FiLax checkpoint of parameters alone, written and read without ever holding the model.

Orbax's own writer needs whole leaves three times in memory; this one writes the same format (OCDBT
and zarr3) slice by slice with TensorStore, so a layer at a time is enough. What it writes is step 0
of a run without an optimizer; filax.checkpoint.store reads it like any other. A chunk is a layer,
or a piece of one, cut where meshes cut: a host that restores its shards reads no more than those.
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
from filax.checkpoint import digest, record, safe_files
from filax.checkpoint.record import FORMAT as FORMAT
from filax.parallel import rules

_CONTEXT = {"cache_pool": {"total_bytes_limit": 0}}  # Nothing stays in memory after a write.
_CUTS = {"fsdp": 16, "tensor": 4}  # Mesh axis -> pieces of a dimension that lies on it, at most.
_SMALL = 1 << 16  # Bytes of a layer that is not cut.


class Writer:
  """Writes step 0 of `workdir`. Call `leaf` for every parameter, then `close`."""

  def __init__(self, workdir: str | os.PathLike, table: Sequence[tuple[str, str]] = ()):
    """`table`: rows of DIMS (build.dims_table); a parameter without a row is not cut."""
    import tensorstore as ts

    self.step = Path(files.absolute(workdir)) / "checkpoints" / "0"
    self.state = self.step / "state"
    self.state.mkdir(parents=True)
    self.leaves: dict[str, Leaf] = {}
    self._table = table
    self._context = ts.Context(_CONTEXT)

  def leaf(self, path: str, shape: tuple[int, ...], dtype, stacked: bool) -> "Leaf":
    """A parameter ("llm/norm/scale") to be written in slices of its first axis, or whole."""
    import tensorstore as ts

    chunk = chunk_shape(self._table, path, shape, np.dtype(dtype).itemsize, stacked)
    path = f"params/{path}"
    spec = _spec(self.state, path) | {
      "metadata": {
        "shape": list(shape),
        "data_type": np.dtype(dtype).name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
      }
    }
    store = ts.open(spec, create=True, open=True, context=self._context).result()
    leaf = Leaf(np.dtype(dtype), tuple(shape), store)
    self.leaves[path] = leaf
    return leaf

  def close(self, config: Mapping[str, Any]) -> Path:
    """Writes what makes it a checkpoint: the tree, the digests and the config."""
    import orbax.checkpoint as ocp

    (self.state / "_METADATA").write_text(json.dumps(_metadata(self.leaves)))
    config = json.loads(json.dumps(dict(config)))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as saver:
      saver.save(
        self.step.parent / "items",
        ocp.args.Composite(data=ocp.args.JsonSave({}), config=ocp.args.JsonSave(config)),
      )
    for path in (self.step.parent / "items").iterdir():
      path.rename(self.step / path.name)
    (self.step.parent / "items").rmdir()
    facts = record.make(0, 0, "", config)
    facts["digests"] = {path: leaf.digest() for path, leaf in self.leaves.items()}
    record.write(self.step / "data", facts)
    return self.step


class Leaf:
  """One parameter on its way to the disk: `leaf[i] = layer`, or `leaf[...] = whole`."""

  def __init__(self, dtype: np.dtype, shape: tuple[int, ...], store):
    self._dtype = dtype
    self._shape = shape
    self._store = store
    self._sum = 0

  def __setitem__(self, index, x: np.ndarray) -> None:
    x = np.ascontiguousarray(x)
    self._sum += slice_sum(x, index, self._shape)
    self._store[index].write(x, can_reference_source_data_indefinitely=True).result()

  def digest(self) -> str:
    """The digest of all that was written."""
    return digest.digest_text(self._dtype, self._shape, self._sum)


def chunk_shape(
  table: Sequence[tuple[str, str]], path: str, shape: tuple[int, ...], itemsize: int, stacked: bool
) -> tuple[int, ...]:
  """What is stored in one piece: a layer, cut along the dimensions that a mesh may split."""
  layer = (1, *shape[1:]) if stacked else shape
  if not table or math.prod(layer) * itemsize <= _SMALL:
    return layer
  layout = rules.parameter_spec(table, path, shape)
  axes = [(axis,) if isinstance(axis, str) else axis or () for axis in layout]
  cuts = [max((_CUTS.get(name, 1) for name in names), default=1) for names in axes]
  return tuple(size // math.gcd(size, cut) for size, cut in zip(layer, cuts, strict=True))


def slice_sum(x: np.ndarray, index, shape: tuple[int, ...], mix: digest.Mix | None = None) -> int:
  """What `array[index] = x` adds to the digest of an array of `shape`."""
  if index is Ellipsis:
    return digest.box_sum(x.reshape(shape), (0,) * len(shape), shape, mix)
  start = (index, *(0 for _ in shape[1:]))
  return digest.box_sum(x.reshape(1, *shape[1:]), start, shape, mix)


def absolute(path: str | os.PathLike) -> Path | epath.Path:
  """The path as Orbax takes it: not relative to the working folder. URLs stay as they are."""
  path = files.absolute(path)
  return epath.Path(path) if "://" in path else Path(path)


def step_folder(path: str | os.PathLike) -> Path | epath.Path:
  """The newest step of a run folder, or the step that `path` is; OSError if there is none.

  Raises ValueError if a local step holds a pipe or a device.
  """
  path = absolute(path)
  step = path if (path / "state").exists() else _newest_step(path)
  safe_files.check_checkpoint(step)
  return step


def _newest_step(path: Path | epath.Path) -> Path | epath.Path:
  folder = path / "checkpoints" if (path / "checkpoints").exists() else path
  steps = [p for p in folder.glob("*") if p.name.isdigit() and (p / "state").exists()]
  if not steps:
    raise FileNotFoundError(
      f"There is no checkpoint in {path}. Give --checkpoint the folder of a run or of a step."
    )
  return max(steps, key=lambda p: int(p.name))


def read_json(step: Path | epath.Path, name: str) -> dict[str, Any]:
  """The item `config` or `data` of a step, checked. Raises ValueError if it is damaged."""
  step = absolute(step)
  try:
    data, config = record.read(step)
  except record.Damaged as error:
    raise ValueError(f"{step} is damaged: {error}") from error
  return config if name == "config" else data


def shapes(step: Path | epath.Path) -> dict[str, Any]:
  """path -> Orbax metadata (shape, dtype) of every parameter of a step."""
  import orbax.checkpoint as ocp

  step = absolute(step)
  data = read_json(step, "data")
  try:
    with record.damage("its list of arrays cannot be read"):
      tree = ocp.PyTreeCheckpointHandler().metadata(step / "state").tree
      leaves = flat(tree["params"], "params/")
    record.check_leaves(data, leaves, "params/")
  except record.Damaged as error:
    raise ValueError(f"{step} is damaged: {error}") from error
  return {path.removeprefix("params/"): leaf for path, leaf in sorted(leaves.items())}


def read(step: Path | epath.Path, path: str, expected: str | int | None = None) -> np.ndarray:
  """One parameter, compared with the digest `expected`, by default that of the step's record.

  Raises ValueError if it is damaged or another one.
  """
  import orbax.checkpoint as ocp

  step = absolute(step)
  one = lambda leaf: nest({}, f"params/{path}", leaf)
  args = ocp.args.PyTreeRestore(
    one(0), restore_args=one(ocp.RestoreArgs(restore_type=np.ndarray)), partial_restore=True
  )
  expected = _digest(step, path, expected)
  try:
    tree = ocp.PyTreeCheckpointHandler().restore(step / "state", args=args)
  except Exception as error:  # TensorStore raises many kinds; all mean the same here.
    raise _unreadable(step, path, error) from error
  x = flat(tree["params"])[path]
  total = slice_sum(x, ..., x.shape, record.mix_of(expected))
  _check(step, path, record.matches(expected, x.dtype, x.shape, total))
  return x


def read_layers(
  step: Path | epath.Path, path: str, expected: str | int | None = None
) -> Iterator[np.ndarray]:
  """The layers of a stacked parameter in turn, as few at a time as the checkpoint allows: one, if
  `Writer` wrote it. `expected` as in `read`. Raises ValueError, of a wrong digest after the last
  layer."""
  import tensorstore as ts

  step = absolute(step)
  try:
    store = ts.open(_spec(step / "state", f"params/{path}"), open=True).result()
  except ValueError:  # Training writes zarr2, in chunks as large as its shards.
    yield from read(step, path, expected)
    return
  expected = _digest(step, path, expected)
  total = 0
  for i in range(store.shape[0]):
    try:
      layer = store[i].read().result()
    except Exception as error:  # As in `read`.
      raise _unreadable(step, path, error) from error
    total += slice_sum(layer, i, store.shape, record.mix_of(expected))
    yield layer
  _check(step, path, record.matches(expected, store.dtype.numpy_dtype, store.shape, total))


def _digest(step: Path, path: str, expected: str | int | None) -> str | int:
  if expected is not None:
    return expected
  return read_json(step, "data")["digests"].get(f"params/{path}", "")


def _check(step: Path, path: str, matches: bool) -> None:
  if not matches:
    raise ValueError(f"{path} of {step} is not what was written (its digest differs).")


def _unreadable(step: Path, path: str, error: Exception) -> ValueError:
  return ValueError(f"{path} of {step} cannot be read ({' '.join(str(error).split())[:200]}).")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested dicts -> path -> leaf."""
  found = {}
  for key, value in tree.items():
    path = f"{prefix}{key}"
    found |= flat(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
  return found


def nest(tree: dict[str, Any], path: str, leaf: Any) -> dict[str, Any]:
  """Puts a leaf into nested dicts, which it returns."""
  *parents, last = path.split("/")
  node = tree
  for key in parents:
    node = node.setdefault(key, {})
  node[last] = leaf
  return tree


def _spec(state: Path | epath.Path, path: str) -> dict[str, Any]:
  base = f"{state}/" if "://" in str(state) else f"file://{state}/"
  return {
    "driver": "zarr3",
    "store_data_equal_to_fill_value": True,  # Orbax takes gaps for damage.
    "kvstore": {
      "driver": "ocdbt",
      "base": base,
      "path": path.replace("/", ".") + "/",
      "config": {"max_inline_value_bytes": 1024, "max_decoded_node_bytes": 100_000_000},
    },
  }


def _metadata(paths) -> dict[str, Any]:
  """The description of the tree that Orbax reads before the arrays."""
  leaves = {
    str(tuple(path.split("/"))): {
      "key_metadata": [{"key": key, "key_type": 2} for key in path.split("/")],
      "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
    }
    for path in paths
  }
  return {
    "tree_metadata": leaves,
    "use_ocdbt": True,
    "use_zarr3": True,
    "store_array_data_equal_to_fill_value": True,
    "custom_metadata": None,
  }
