# SPDX-License-Identifier: Apache-2.0
"""Zig-zag order of rows over the mesh axis `seq`.

Device i of n holds chunks i and 2n-1-i. Under a causal mask every device then has the same work
(arXiv:2407.21783 §3.3.2). The host always sends natural order; this is applied once, to every [R L]
array of a batch.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from filax import spec
from filax.parallel.rules import constrain

KEYS = tuple(key for key, (dims, _) in spec.BATCH.items() if dims == "R L")


def order(length: int, shards: int) -> np.ndarray:
  """The natural index of each position of the zig-zag order, int [L].

  Raises ValueError if the row does not split into 2·shards equal chunks.
  """
  if length % (2 * shards):
    raise ValueError(
      f"A row of {length} positions does not split into {2 * shards} chunks over config.mesh.seq="
      f"{shards}. Set the length in config.data.rows to a multiple of {2 * shards}."
    )
  chunks = np.arange(length).reshape(2 * shards, -1)
  first = chunks[:shards]
  last = chunks[: shards - 1 : -1]
  return np.concatenate([first, last], axis=1).reshape(-1)


def natural(x, shards: int):
  """Restores natural order by a static reshape.

  x [B S ...] was gathered in zig-zag order.
  """
  batch, length, *rest = x.shape
  chunks = x.reshape(batch, shards, 2, length // (2 * shards), *rest)
  first_half = chunks[:, :, 0]
  second_half = chunks[:, ::-1, 1]  # Device i holds chunk 2n-1-i.
  return jnp.concatenate([first_half, second_half], axis=1).reshape(x.shape)


def order_in_use(length: int) -> np.ndarray | None:
  """`order` on the mesh in use; None for rows in natural order."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.shape["seq"] == 1:
    return None
  return order(length, mesh.shape["seq"])


def reorder(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """The batch in zig-zag order.

  Adds `place` [R L], the natural index of every token. Unchanged without a mesh, or with
  config.mesh.seq = 1.
  """
  rows, length = batch["tokens"].shape
  index = order_in_use(length)
  if index is None:
    return dict(batch)
  reordered = dict(batch)
  for key in KEYS:
    if key in batch:
      reordered[key] = constrain(batch[key][:, index], "batch seq")
  place = jnp.broadcast_to(jnp.asarray(index, jnp.int32), (rows, length))
  reordered["place"] = constrain(place, "batch seq")
  return reordered
