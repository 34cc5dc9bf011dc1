# SPDX-License-Identifier: Apache-2.0
"""Frames as the batch of an encoder: every device keeps its own rows and its own part of time.

Plainly merging [B T] would interleave devices that hold several rows; here the merged order follows
the mesh, so that no frame moves. A static permutation undoes it.
"""

import math

import jax
import jax.numpy as jnp

from filax.parallel.rules import constrain


def flatten(x: jax.Array, clip: int) -> jax.Array:
  """[B T ...] -> clips [B·T/clip clip ...], spread over data, fsdp and seq."""
  rows, parts = _shards(x.shape[:2], clip)
  x = x.reshape(rows, x.shape[0] // rows, parts, -1, clip, *x.shape[2:])
  x = jnp.swapaxes(x, 1, 2)
  x = x.reshape(-1, *x.shape[4:])
  words = {(True, True): "frames", (True, False): "batch"}.get((rows > 1, parts > 1), "-")
  return constrain(x, words + " -" * (x.ndim - 1))


def unflatten(x: jax.Array, batch: int, total: int) -> jax.Array:
  """The inverse, for what became of the clips: [B·T/clip clip ...] -> [B T ...]."""
  rows, parts = _shards((batch, total), x.shape[1])
  x = x.reshape(rows, parts, batch // rows, total // parts, *x.shape[2:])
  x = jnp.swapaxes(x, 1, 2)
  x = x.reshape(batch, total, *x.shape[4:])
  words = f"{'batch' if rows > 1 else '-'} {'seq' if parts > 1 else '-'}"
  return constrain(x, words + " -" * (x.ndim - 2))


def _shards(shape: tuple[int, int], clip: int) -> tuple[int, int]:
  """Over how many devices rows and frames are spread. What does not divide stays together."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return 1, 1
  rows, parts = math.prod(mesh.shape[a] for a in ("data", "fsdp")), mesh.shape["seq"]
  batch, total = shape
  return (1 if batch % rows else rows), (1 if total % (parts * clip) else parts)

