# SPDX-License-Identifier: Apache-2.0
"""Frames as the batch of an encoder: every device keeps its own rows and its own part of time.

Plainly merging [B T] would interleave devices that hold several rows; here the merged order follows
the mesh, so that no frame moves. A static permutation undoes it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from filax.parallel.rules import constrain


class Spread(NamedTuple):
  """Over how many devices rows and parts of time lie. What does not divide stays together."""

  rows: int
  parts: int

  @property
  def words(self) -> str:
    """The dimension word of the merged axis."""
    both = {(True, True): "frames", (True, False): "batch", (False, True): "seq"}
    return both.get((self.rows > 1, self.parts > 1), "-")


def spread(shape: tuple[int, int], clip: int) -> Spread:
  """How [B T] frames lie on the mesh in use, where `clip` neighbours stay together."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return Spread(1, 1)
  rows = math.prod(mesh.shape[a] for a in ("data", "fsdp"))
  parts = mesh.shape["seq"]
  batch, total = shape
  return Spread(1 if batch % rows else rows, 1 if total % (parts * clip) else parts)


def flatten(x: jax.Array, clip: int) -> jax.Array:
  """[B T ...] -> clips [B·T/clip clip ...], spread over data, fsdp and seq."""
  over = spread(x.shape[:2], clip)
  x = x.reshape(over.rows, x.shape[0] // over.rows, over.parts, -1, clip, *x.shape[2:])
  x = jnp.swapaxes(x, 1, 2)
  x = x.reshape(-1, *x.shape[4:])
  return constrain(x, over.words + " -" * (x.ndim - 1))


def unflatten(x: jax.Array, batch: int, total: int) -> jax.Array:
  """The inverse, for what became of the clips: [B·T/clip clip ...] -> [B T ...]."""
  over = spread((batch, total), x.shape[1])
  x = x.reshape(over.rows, over.parts, batch // over.rows, total // over.parts, *x.shape[2:])
  x = jnp.swapaxes(x, 1, 2)
  x = x.reshape(batch, total, *x.shape[4:])
  words = f"{'batch' if over.rows > 1 else '-'} {'seq' if over.parts > 1 else '-'}"
  return constrain(x, words + " -" * (x.ndim - 2))


def cut(clips: jax.Array, over: Spread, chunk: int) -> jax.Array:
  """Flattened clips [n ...] -> [steps devices·chunk ...]: at every step each device has `chunk` of
  its own; the last step is filled up with blank ones."""
  devices = over.rows * over.parts
  own = clips.reshape(devices, -1, *clips.shape[1:])
  own = jnp.pad(own, ((0, 0), (0, -own.shape[1] % chunk), *((0, 0),) * (own.ndim - 2)))
  steps = jnp.moveaxis(own.reshape(devices, -1, chunk, *own.shape[2:]), 1, 0)
  steps = steps.reshape(steps.shape[0], devices * chunk, *steps.shape[3:])
  return constrain(steps, f"- {over.words}" + " -" * (steps.ndim - 2))


def joined(steps: jax.Array, over: Spread, count: int) -> jax.Array:
  """The inverse, for what became of `count` clips: [steps devices·chunk ...] -> [n ...]."""
  devices = over.rows * over.parts
  x = steps.reshape(steps.shape[0], devices, -1, *steps.shape[2:])
  x = jnp.moveaxis(x, 0, 1).reshape(devices, -1, *x.shape[3:])
  x = x[:, : count // devices].reshape(count, *x.shape[2:])
  return constrain(x, over.words + " -" * (x.ndim - 1))
