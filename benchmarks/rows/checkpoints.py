# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: how fast they are written and read, and how long a step waits for one."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.encoders import PLAIN_TORCH

LEAF = 8 * 2**20  # float32 values of a leaf.
CONFIG = dict(model=dict(name="benchmark"))


def _state(mib: int):
  """A training state of `mib` MiB of parameters and moments, all random.

  Orbax compresses, and moments of zeros would hardly take space.
  """
  import jax
  import jax.numpy as jnp

  from filax.train.state import TrainState

  count = max(1, mib * 2**20 // (3 * 4 * LEAF))
  trees = []
  for key in jax.random.split(jax.random.key(0), 3):
    keys = jax.random.split(key, count)
    trees.append({f"layer{n}": jax.random.normal(keys[n], (LEAF,)) for n in range(count)})
  params, *moments = trees
  key = jax.random.key_data(jax.random.key(1))
  return TrainState(jnp.zeros((), jnp.int32), params, moments, key)


def _filax_save(mib: int) -> Repetition:
  import dataclasses
  import itertools
  import time

  import jax

  from benchmarks.scratch import empty_folder
  from filax.checkpoint import store

  folder = empty_folder("save")
  state = _state(mib)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  steps = itertools.count(1)
  saved = store.Checkpoints(folder, keep=1)

  def save():
    numbered = dataclasses.replace(state, step=state.step + next(steps))
    start = time.perf_counter()
    saved.save(numbered, 0, "benchmark", CONFIG)
    stall = time.perf_counter() - start
    saved.wait()
    return dict(seconds=time.perf_counter() - start, amount=size / 1e9, stall_s=stall)

  return save


def _torch_save(mib: int) -> Repetition:
  import os
  import time

  import torch

  from benchmarks.scratch import empty_folder

  path = empty_folder("torch-save") / "state.pt"
  count = max(1, mib * 2**20 // (3 * 4 * LEAF))
  state = {f"{part}{n}": torch.randn(LEAF) for part in "pmv" for n in range(count)}

  def save():
    start = time.perf_counter()
    torch.save(state, path)
    with path.open("rb") as file:
      os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    return dict(seconds=seconds, amount=3 * count * LEAF * 4 / 1e9, stall_s=seconds)

  return save


def _filax_restore(mib: int) -> Repetition:
  import time

  import jax

  from benchmarks.scratch import empty_folder
  from filax.checkpoint import store

  folder = empty_folder("restore")
  state = _state(mib)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  with store.Checkpoints(folder, keep=1) as saved:
    saved.save(state, 0, "benchmark", CONFIG)
  like = jax.tree.map(_shape_like, state)

  def restore():
    start = time.perf_counter()
    with store.Checkpoints(folder, keep=1) as saved:
      jax.block_until_ready(saved.restore(like).state.params)
    return dict(seconds=time.perf_counter() - start, amount=size / 1e9)

  return restore


def _shape_like(leaf):
  import jax

  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _torch_restore(mib: int) -> Repetition:
  import time

  import torch

  from benchmarks.scratch import empty_folder

  path = empty_folder("torch-restore") / "state.pt"
  count = max(1, mib * 2**20 // (3 * 4 * LEAF))
  torch.save({f"{part}{n}": torch.randn(LEAF) for part in "pmv" for n in range(count)}, path)

  def restore():
    start = time.perf_counter()
    torch.load(path)
    return dict(seconds=time.perf_counter() - start, amount=3 * count * LEAF * 4 / 1e9)

  return restore


ROWS = (
  BenchmarkRow(
    "checkpoint_save",
    "checkpoint written and synced to disk; FiLax hashes every array",
    "GB/s",
    (Side(OURS, _filax_save), Side("torch.save", _torch_save, PLAIN_TORCH)),
    shapes=(dict(mib=384),),
    full=(dict(mib=3072),),
  ),
  BenchmarkRow(
    "checkpoint_restore",
    "checkpoint read from the page cache; FiLax checks every array",
    "GB/s",
    (Side(OURS, _filax_restore), Side("torch.load", _torch_restore, PLAIN_TORCH)),
    shapes=(dict(mib=384),),
    full=(dict(mib=3072),),
  ),
)
