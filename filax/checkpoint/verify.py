# SPDX-License-Identifier: Apache-2.0
"""Compares restored arrays with the digests in the record of a checkpoint.

All processes reach the same result.
"""

from collections.abc import Mapping

import jax
from jax.experimental import multihost_utils
import numpy as np

from filax.checkpoint import digest, record
from filax.checkpoint.record import Damaged


def check_digests(
  digests: Mapping[str, str | int],
  like: Mapping[str, jax.ShapeDtypeStruct],
  arrays: Mapping[str, jax.Array] | None,
  failure: str = "",
) -> None:
  """Compares arrays with their digests, across all processes.

  digests: path -> digest in the record. like: path -> shape, dtype and sharding, the same in all
  processes. arrays: path -> array, or None if this process could not read them; `failure` says why.
  If an array has several copies (replicas) on the devices, every copy is compared. Raises Damaged
  in every process if a copy differs, or if a process could not read its arrays.
  """
  if arrays is None and jax.process_count() == 1:
    raise Damaged(failure)
  copy_counts = {path: _copies(leaf) for path, leaf in like.items()}
  most_copies = max(copy_counts.values(), default=1)
  sums = np.zeros((len(like), most_copies), np.uint64)
  if arrays is not None:
    for number, path in enumerate(like):
      local_sums = _local_sums(arrays[path], digests[path])
      for replica, total in local_sums.items():
        sums[number, replica] = total
  failed_processes, sums = _gather(arrays is None, sums)
  if failed_processes:
    raise Damaged(failure or f"process {failed_processes[0]} cannot read an array.")
  for number, (path, leaf) in enumerate(like.items()):
    expected = digests[path]
    for replica in range(copy_counts[path]):
      total = int(sums[number, replica])
      if not record.matches(expected, leaf.dtype, leaf.shape, total):
        raise Damaged(f"{path} is not what was written (its digest differs).")


def _copies(leaf: jax.ShapeDtypeStruct) -> int:
  """The number of full copies of an array on its devices."""
  index_of_device = leaf.sharding.devices_indices_map(tuple(leaf.shape))
  indices = index_of_device.values()
  distinct = {str(index) for index in indices}
  return len(indices) // len(distinct)


def _local_sums(x: jax.Array, expected: str | int) -> dict[int, int]:
  """Replica -> digest sum of this process's part, modulo 2**64."""
  sums: dict[int, int] = {}
  boxes = list(digest.held_boxes(x))
  totals = digest.box_sums(boxes, x.shape, record.mix_of(expected))
  for box, total in zip(boxes, totals, strict=True):
    for replica in box.replicas:
      sum_so_far = sums.get(replica, 0)
      sums[replica] = (sum_so_far + total) % 2**64
  return sums


def _gather(failed: bool, sums: np.ndarray) -> tuple[list[int], np.ndarray]:
  """Adds up the digest sums of all processes.

  Returns the numbers of the processes that failed, and the sums modulo 2**64.
  """
  if jax.process_count() == 1:
    return [], sums
  failed_flag = np.array([failed], np.uint64)
  numbers = np.concatenate([failed_flag, sums.reshape(-1)])
  # A number of 64 bits is sent as two of 32, because JAX by default has no wider integers.
  halves = numbers.view(np.uint32)
  gathered = multihost_utils.process_allgather(halves).view(np.uint64)
  failed_processes = np.flatnonzero(gathered[:, 0])
  totals = gathered[:, 1:].sum(axis=0)
  return list(failed_processes), totals.reshape(sums.shape)
