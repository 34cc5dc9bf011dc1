# SPDX-License-Identifier: Apache-2.0
"""Compares arrays that were read with the digests of a record, in all processes alike."""

from collections.abc import Mapping

import jax
from jax.experimental import multihost_utils
import numpy as np

from filax.checkpoint import digest, record
from filax.checkpoint.record import Damaged


def check(
  digests: Mapping[str, str | int],
  like: Mapping[str, jax.ShapeDtypeStruct],
  arrays: Mapping[str, jax.Array] | None,
  failure: str = "",
) -> None:
  """Raises Damaged, in every process, if an array of one of them is not what was written.

  digests: those of a record. like: path -> shape, dtype and sharding, the same in all processes.
  arrays: path -> array; None if this process could not read them, for the reason `failure`. Every
  copy of an array that a process read by itself is compared, not only the first.
  """
  copies = {path: _copies(leaf) for path, leaf in like.items()}
  sums = np.zeros((len(like), max(copies.values(), default=1)), np.uint64)
  if arrays is not None:
    for number, path in enumerate(like):
      for replica, total in _sums(arrays[path], digests[path]).items():
        sums[number, replica] = total
  elif jax.process_count() == 1:
    raise Damaged(failure)
  failed, sums = _gather(arrays is None, sums)
  if failed:
    raise Damaged(failure or f"process {failed[0]} cannot read an array.")
  for number, (path, leaf) in enumerate(like.items()):
    for replica in range(copies[path]):
      total = int(sums[number, replica])
      if not record.matches(digests[path], leaf.dtype, leaf.shape, total):
        raise Damaged(f"{path} is not what was written (its digest differs).")


def _copies(leaf: jax.ShapeDtypeStruct) -> int:
  """How many whole copies of an array lie on its devices."""
  places = leaf.sharding.devices_indices_map(tuple(leaf.shape)).values()
  return len(places) // len({str(index) for index in places})


def _sums(x: jax.Array, expected: str | int) -> dict[int, int]:
  """Replica -> the sum of what this process holds of it, modulo 2**64."""
  sums: dict[int, int] = {}
  boxes = list(digest.held_boxes(x))
  totals = digest.box_sums(boxes, x.shape, record.mix_of(expected))
  for box, total in zip(boxes, totals, strict=True):
    for replica in box.replicas:
      sums[replica] = (sums.get(replica, 0) + total) % 2**64
  return sums


def _gather(failed: bool, sums: np.ndarray) -> tuple[list[int], np.ndarray]:
  """(the processes that failed, the sums over all processes modulo 2**64)."""
  if jax.process_count() == 1:
    return [], sums
  numbers = np.concatenate([np.uint64([failed]), sums.reshape(-1)])
  # 64 bits travel as two of 32: JAX has no wider integers by default.
  everywhere = multihost_utils.process_allgather(numbers.view(np.uint32)).view(np.uint64)
  return list(np.flatnonzero(everywhere[:, 0])), everywhere[:, 1:].sum(axis=0).reshape(sums.shape)
