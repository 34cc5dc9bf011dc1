# SPDX-License-Identifier: Apache-2.0
"""From host to mesh: rows over (data, fsdp), frames also over seq; a process loads its own."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from filax.parallel.rules import spec
from filax.spec import BATCH

Batch = Mapping[str, np.ndarray]
FRAMES = tuple(key for key, (dims, _) in BATCH.items() if dims.startswith("R T"))
AGREE = {"loss_mask": jnp.min, "num_bad": jnp.max}


class Pipeline(Protocol):
  """What a run needs of its data; data_pipelines.loader.Pipeline is one."""

  fingerprint: str  # Of the plan: which samples are in which row.

  def steps(self, epochs: float) -> int:
    """Global batches in `epochs` times through the data."""

  def batches(
    self, start: int, process_index: int, process_count: int, seq_slice: tuple[int, int]
  ) -> contextlib.AbstractContextManager[Iterator[Batch]]:
    """Batches from global row `start` on, without end: of every global batch, the process_index-th
    of process_count equal runs of rows, and of their frames the i-th of n parts, (i, n) =
    `seq_slice`."""


@dataclasses.dataclass(frozen=True)
class Share:
  """The part of every global batch that this process loads: of its rows, and of their frames."""

  row: int
  rows: int
  seq: int
  seqs: int


def share(mesh: Mesh) -> Share:
  """What the devices of this process hold. Processes that differ only in the axis `tensor` load
  the same. Raises ValueError if they do not hold an aligned block of the mesh."""
  mine = np.vectorize(lambda d: d.process_index == jax.process_index())(mesh.devices)
  data, fsdp, seq, tensor = mine.shape
  blocks = []
  for held in (mine.reshape(data * fsdp, -1).any(1), mine.reshape(-1, seq, tensor).any((0, 2))):
    places = np.flatnonzero(held)
    first, size = places[0], len(places)
    if places[-1] - first + 1 != size or first % size or len(held) % size:
      raise ValueError(
        f"Process {jax.process_index()} holds parts {places.tolist()} of {len(held)} of a batch, "
        "which is no equal run. Set config.mesh so that a process's devices lie together."
      )
    blocks += [int(first // size), len(held) // size]
  return Share(*blocks)


def batches(pipeline: Pipeline, mesh: Mesh, row: int):
  """The pipeline's batches for this process, from global row `row` on."""
  part = share(mesh)
  return pipeline.batches(row, part.row, part.rows, (part.seq, part.seqs))


def layout(key: str, shape: Sequence[int], mesh: Mesh) -> NamedSharding:
  """How a key of a global batch lies on the mesh: rows over devices, and what there is of every
  frame over seq as well, if it divides."""
  over_seq = key in FRAMES and shape[1] % mesh.shape["seq"] == 0
  return NamedSharding(mesh, spec("batch seq" if over_seq else "batch"))


def place(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
  """Local rows -> global arrays. The copy to the devices runs while the host goes on."""
  part = share(mesh)

  def one(key: str, x: np.ndarray) -> jax.Array:
    shape = [x.shape[0] * part.rows, *x.shape[1:]]
    if key in FRAMES:
      shape[1] *= part.seqs
      _check_parts(shape[1], mesh, part)
    return jax.make_array_from_process_local_data(layout(key, shape, mesh), x, tuple(shape))

  with jax.transfer_guard("allow"):  # The one transfer of a step that is meant.
    placed = {key: one(key, np.asarray(x)) for key, x in batch.items()}
    if part.seqs > 1:
      placed |= {key: agree(key, batch[key], mesh, part) for key in AGREE}
    return placed


def _check_parts(frames: int, mesh: Mesh, part: Share) -> None:
  """Raises ValueError if processes that load parts of a row's frames cannot place them."""
  if part.seqs > 1 and frames % mesh.shape["seq"]:
    raise ValueError(
      f"Rows of {frames} frames do not split over config.mesh.seq={mesh.shape['seq']}, which "
      f"{part.seqs} processes share. Set the frames in config.data.rows to a multiple of it."
    )


def agree(key: str, x: np.ndarray, mesh: Mesh, part: Share) -> jax.Array:
  """One array of rows whose parts lie with several processes. Each knows only the media that it
  decoded: what one of them masked is masked, and the most bad samples that one saw are counted."""
  seen = np.repeat(x[:, None], mesh.shape["seq"] // part.seqs, axis=1)
  shape = (x.shape[0] * part.rows, mesh.shape["seq"], *x.shape[1:])
  seen = jax.make_array_from_process_local_data(NamedSharding(mesh, spec("batch seq")), seen, shape)
  return _over_seq(key, NamedSharding(mesh, spec("batch")))(seen)


@functools.cache
def _over_seq(key: str, layout: NamedSharding):
  return jax.jit(functools.partial(AGREE[key], axis=1), out_shardings=layout)
