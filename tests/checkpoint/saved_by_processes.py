# SPDX-License-Identifier: Apache-2.0
"""Saves the same arrays on any mesh of four devices, in one process or in two; a script of a test.

python saved_by_processes.py FOLDER: saves the steps 1 to 3, restores and prints the step. The
second of two processes (FILAX_COORDINATOR) first restores from copies of FOLDER, which differ as
views of a network file system may. Then the storage gives it back other bytes for step 2.
"""

import pathlib
import shutil
import sys

import jax
import numpy as np

from filax.checkpoint import orbax_items, steps, store
from filax.parallel import distributed
from filax.train import state

LAYOUTS = {  # Name -> mesh axes of each dimension, by the number of processes.
  "layers": (jax.P(None, "a", "b"), jax.P(None, None, ("b", "a"))),
  "whole": (jax.P(), jax.P("b")),
  "rows": (jax.P(("a", "b")), jax.P("a")),
  "half": (jax.P(None, "a"), jax.P(None, "b")),
}


def tree(processes: int, step: int):
  """A state with arrays of several dtypes; every process holds a part, of some arrays a copy."""
  mesh = jax.make_mesh((2, 2), ("a", "b"))
  rng = np.random.default_rng(step)
  host = {
    "layers": rng.normal(size=(3, 8, 40)).astype(np.float32),
    "whole": rng.normal(size=(6, 5)).astype(jax.numpy.bfloat16),
    "rows": rng.integers(0, 99, size=(8,), dtype=np.uint8),
    "half": rng.normal(size=(2, 4, 3)).astype(np.float16),
  }
  layout = {name: jax.NamedSharding(mesh, specs[processes - 1]) for name, specs in LAYOUTS.items()}

  def place(x, sharding):
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

  everywhere = jax.NamedSharding(mesh, jax.P())
  return state.TrainState(
    place(np.int32(step), everywhere),
    {k: place(x, layout[k]) for k, x in host.items()},
    {},
    place(np.uint32([1, step]), everywhere),
  )


class Failing:
  """Orbax's handler of arrays on a storage that flips a bit of one array of step 2."""

  def __init__(self):
    self._handler = INTACT()

  def metadata(self, path):
    return self._handler.metadata(path)

  def restore(self, path, args):
    restored = self._handler.restore(path, args=args)
    if path.parent.name == "2":
      params = restored["params"]
      params["half"] = jax.make_array_from_single_device_arrays(
        params["half"].shape,
        params["half"].sharding,
        [-shard.data for shard in params["half"].addressable_shards],
      )
    return restored


INTACT = orbax_items.array_handler


def copies(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Copies of a run with the steps 1 to 3, by what is different in them."""
  runs = {name: folder.with_name(f"{folder.name}_{name}") for name in ("newer", "older", "broken")}
  for copy in runs.values():
    shutil.copytree(folder, copy)
  shutil.copytree(folder / "checkpoints" / "1", runs["newer"] / "checkpoints" / "4")
  shutil.rmtree(runs["older"] / "checkpoints" / "3")
  (runs["broken"] / "checkpoints" / "3" / "data" / "metadata").write_text("{")
  return runs


def main(folder: str) -> None:
  distributed.start()
  processes = jax.process_count()
  made = tree(processes, 2)
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), made)
  with store.Checkpoints(folder, 0) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(tree(processes, step), 4 * step, "plan", {"batch": 4})
  seen = dict.fromkeys(("newer", "older", "broken"), folder)
  if jax.process_index() == 1:
    seen = copies(pathlib.Path(folder))
    steps.SEEN_SECONDS = 1.0
  if processes == 2:
    for name in seen:
      try:
        with store.Checkpoints(seen[name], 0) as checkpoints:
          print(f"{name}: restored {checkpoints.restore(like).step}, {checkpoints.latest().name}")
      except OSError as error:
        print(f"{name}: {error}")
  with store.Checkpoints(folder, 0) as checkpoints:
    if jax.process_index() == 1:
      orbax_items.array_handler = Failing
    print(f"restored {checkpoints.restore(like).step}", flush=True)


if __name__ == "__main__":
  main(sys.argv[1])
