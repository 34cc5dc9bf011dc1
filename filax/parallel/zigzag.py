# SPDX-License-Identifier: Apache-2.0
"""Zig-zag order of a row over the mesh axis `seq`: device i holds chunk i and chunk 2n-1-i.

Under a causal mask every device then has the same work (arXiv:2407.21783 §3.3.2). The host always
sends natural order; this is applied once, to every [R L] array of a batch.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from filax import spec
from filax.parallel.rules import constrain

KEYS = tuple(key for key, (dims, _) in spec.BATCH.items() if dims == "R L")


def order(length: int, shards: int) -> np.ndarray:
  """int [L]: the natural index of the token at each place of the zig-zag order.

  Raises ValueError if the row does not split into 2·shards equal chunks.
  """
  if length % (2 * shards):
    raise ValueError(
      f"A row of {length} positions does not split into {2 * shards} chunks over config.mesh.seq="
      f"{shards}. Set the length in config.data.rows to a multiple of {2 * shards}."
    )
  chunks = np.arange(length).reshape(2 * shards, -1)
  return np.concatenate([chunks[:shards], chunks[: shards - 1 : -1]], axis=1).reshape(-1)


def in_use(length: int) -> np.ndarray | None:
  """`order` on the mesh in use; None where rows are in natural order."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.shape["seq"] == 1:
    return None
  return order(length, mesh.shape["seq"])


def lay(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """The batch with every [R L] array in zig-zag order, and `place` [R L], the natural index.

  Unchanged without a mesh, or with config.mesh.seq = 1.
  """
  rows, length = batch["tokens"].shape
  if (index := in_use(length)) is None:
    return dict(batch)
  laid = {key: constrain(batch[key][:, index], "batch seq") for key in KEYS if key in batch}
  place = jnp.broadcast_to(jnp.asarray(index, jnp.int32), (rows, length))
  return {**batch, **laid, "place": constrain(place, "batch seq")}
