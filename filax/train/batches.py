# SPDX-License-Identifier: Apache-2.0
"""Places batches on the mesh.

Rows are sharded over the mesh axes data and fsdp, and arrays of frames over seq as well. A process
loads its own part of every global batch.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from filax.parallel.rules import partition_spec
from filax.spec import BATCH

Batch = Mapping[str, np.ndarray]
FRAMES = tuple(key for key, (dims, _) in BATCH.items() if dims.startswith("R T"))
AGREE = {"loss_mask": jnp.min, "num_bad": jnp.max}


class BatchSource(Protocol):
  """The data of a run; data_pipelines.loader.Pipeline implements it."""

  @property
  def fingerprint(self) -> str:
    """The plan's: which samples are in which row."""

  def steps(self, epochs: float) -> int:
    """Global batches in `epochs` times through the data."""

  def batches(
    self, start: int, process_index: int, process_count: int, seq_slice: tuple[int, int]
  ) -> contextlib.AbstractContextManager[Iterator[Batch]]:
    """Batches from global row `start` on, without end.

    Of the rows of every global batch, the process_index-th of process_count equal runs, and of
    their frames the i-th of n parts, (i, n) = `seq_slice`.
    """


@dataclasses.dataclass(frozen=True)
class ProcessShare:
  """The part of every global batch that this process loads.

  It is one of `rows` equal parts of the rows, and of their frames one of `seqs` equal parts.
  `tensors` processes, which differ only in the axis `tensor`, load this same part.
  """

  row: int
  rows: int
  seq: int
  seqs: int
  tensors: int = 1

  @property
  def readers(self) -> int:
    """The number of processes that load frames of the same rows."""
    return self.seqs * self.tensors


def process_share(mesh: Mesh) -> ProcessShare:
  """The share of the devices of this process.

  Raises ValueError if the devices of a process do not hold an aligned block of the mesh.
  """
  is_local = np.vectorize(lambda device: device.process_index == jax.process_index())
  local = is_local(mesh.devices)  # [data fsdp seq tensor]
  data, fsdp, _, _ = local.shape
  holds_row = local.reshape(data * fsdp, -1).any(1)
  holds_seq = local.any((0, 1, 3))
  holds_tensor = local.any((0, 1, 2))
  row, rows = _aligned_block(holds_row)
  seq, seqs = _aligned_block(holds_seq)
  _, tensors = _aligned_block(holds_tensor)
  return ProcessShare(row, rows, seq, seqs, tensors)


def _aligned_block(is_held: np.ndarray) -> tuple[int, int]:
  """(index, count): the block of an axis that this process holds.

  The axis is split into `count` equal blocks. Raises ValueError if the process holds none of them.
  """
  places = np.flatnonzero(is_held)
  first = places[0]
  size = len(places)
  total = len(is_held)
  is_run = places[-1] - first + 1 == size
  if not is_run or first % size or total % size:
    raise ValueError(
      f"Process {jax.process_index()} holds parts {places.tolist()} of {total} of a batch, which "
      "is not an equal run. Set config.mesh so that a process's devices lie together."
    )
  return int(first // size), total // size


def open_batches(pipeline: BatchSource, mesh: Mesh, row: int):
  """The pipeline's batches for this process, from global row `row` on."""
  share = process_share(mesh)
  seq_slice = (share.seq, share.seqs)
  return pipeline.batches(row, share.row, share.rows, seq_slice)


def batch_sharding(key: str, shape: Sequence[int], mesh: Mesh) -> NamedSharding:
  """The sharding of a key of a global batch.

  Rows lie over (data, fsdp). Keys of frames lie over seq as well, if it divides their second axis.
  """
  words = "batch"
  if key in FRAMES and shape[1] % mesh.shape["seq"] == 0:
    words = "batch seq"
  return NamedSharding(mesh, partition_spec(words))


def place_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
  """Local rows -> global arrays.

  The copy to the devices runs while the host goes on.
  """
  share = process_share(mesh)
  with jax.transfer_guard("allow"):  # The only intended transfer of a step.
    placed = {}
    for key, x in batch.items():
      placed[key] = _place(key, np.asarray(x), mesh, share)
    if share.readers > 1:
      for key in AGREE:
        placed[key] = agree_on(key, batch[key], mesh, share)
    return placed


def _place(key: str, x: np.ndarray, mesh: Mesh, share: ProcessShare) -> jax.Array:
  """Local rows [r ...] -> global array [R ...]."""
  shape = [x.shape[0] * share.rows, *x.shape[1:]]
  if key in FRAMES:
    shape[1] *= share.seqs
    _check_frames(shape[1], mesh, share)
  sharding = batch_sharding(key, shape, mesh)
  return jax.make_array_from_process_local_data(sharding, x, tuple(shape))


def _check_frames(frames: int, mesh: Mesh, share: ProcessShare) -> None:
  """Checks that frames split over the processes that share their rows.

  Raises ValueError naming config.data.rows.
  """
  if share.seqs > 1 and frames % mesh.shape["seq"]:
    raise ValueError(
      f"Rows of {frames} frames do not split over config.mesh.seq={mesh.shape['seq']}, which "
      f"{share.seqs} processes share. Set the frames in config.data.rows to a multiple of it."
    )


def agree_on(key: str, x: np.ndarray, mesh: Mesh, share: ProcessShare) -> jax.Array:
  """A key of AGREE [r ...] as a global array [R ...].

  For rows whose frames several processes load. Each process knows only what it decoded, and one
  host may be too slow for a medium that another one reads: a place that one of them masked is
  masked for all, and of their counts of bad samples the highest is taken.
  """
  seq = mesh.shape["seq"]
  tensor = mesh.shape["tensor"]
  copies = np.repeat(x[:, None, None], seq // share.seqs, axis=1)
  copies = np.repeat(copies, tensor // share.tensors, axis=2)
  rows = x.shape[0] * share.rows
  shape = (rows, seq, tensor, *x.shape[1:])
  over_views = NamedSharding(mesh, jax.P(("data", "fsdp"), "seq", "tensor"))
  over_rows = NamedSharding(mesh, partition_spec("batch"))
  views = jax.make_array_from_process_local_data(over_views, copies, shape)
  reduce_views = _reduce_views(key, over_rows)
  return reduce_views(views)


@functools.cache
def _reduce_views(key: str, sharding: NamedSharding):
  reduction = functools.partial(AGREE[key], axis=(1, 2))
  return jax.jit(reduction, out_shardings=sharding)
