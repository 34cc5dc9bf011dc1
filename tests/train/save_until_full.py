# SPDX-License-Identifier: Apache-2.0
"""Saves steps to a disk until it takes no more, as a run does; a script of test_full_disk.py.

python save_until_full.py FOLDER ARRAYS...: a step of that many arrays of 80 kB for each number.
Prints the step that is restored at last.
"""

import sys
import time

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from filax.checkpoint import storage, store
from filax.cli import errors
from filax.train import state


def made(step: int, arrays: int) -> state.TrainState:
  rng = np.random.default_rng(step)
  params = {str(n): jnp.asarray(rng.normal(size=(100, 200)), jnp.float32) for n in range(arrays)}
  return state.TrainState(jnp.int32(step), params, {}, jnp.uint32([1, step]))


def main(argv) -> int:
  folder, *sizes = argv
  logging.set_verbosity(logging.FATAL)
  storage.quiet_background_writes()
  with store.Checkpoints(folder, 1) as checkpoints:
    for step, arrays in enumerate(map(int, sizes), 1):
      checkpoints.save(made(step, arrays), 4 * step, "plan", {"batch": 4})
      for _ in range(20):
        time.sleep(0.01)
        checkpoints.raise_failed_save()
  return 0


def restore(folder: str, arrays: int) -> None:
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), made(1, arrays)
  )
  with store.Checkpoints(folder, 1) as checkpoints:
    restored = checkpoints.restore(like)
    print(restored.step if restored else None)


if __name__ == "__main__":
  code = errors.run_verb(main, sys.argv[1:], "train")
  restore(sys.argv[1], int(sys.argv[2]))
  sys.exit(code)
