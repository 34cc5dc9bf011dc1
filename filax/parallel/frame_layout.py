# SPDX-License-Identifier: Apache-2.0
"""Frames as the batch of an encoder, without moving them between devices.

Every device keeps its own rows and its own part of time. Merging [B T] row by row would interleave
devices that hold several rows. Here the merged order follows the mesh, so that no frame moves
between devices; a static permutation restores the order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from filax.parallel.rules import constrain


class FrameLayout(NamedTuple):
  """Numbers of device groups along the rows and along time."""

  rows: int
  parts: int
  time_word: str = "seq"  # The dimension word of time: "frames" if it also lies over rows' axes.

  @property
  def words(self) -> str:
    """The dimension word of the merged axis."""
    if self.rows > 1 and self.parts > 1:
      return "frames"
    if self.rows > 1:
      return "batch"
    if self.parts > 1:
      return self.time_word
    return "-"


def frame_layout(shape: tuple[int, int], clip: int) -> FrameLayout:
  """The layout of [B T] frames on the mesh in use.

  `clip` neighbouring frames stay together. A dimension that does not divide evenly is not split; if
  the rows do not, such as a single video, time lies over all axes where it divides.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return FrameLayout(1, 1)
  batch, frames = shape
  rows = mesh.shape["data"] * mesh.shape["fsdp"]
  parts = mesh.shape["seq"]
  if batch % rows:
    if frames % (rows * parts * clip) == 0:
      return FrameLayout(1, rows * parts, "frames")
    rows = 1
  if frames % (parts * clip):
    parts = 1
  return FrameLayout(rows, parts)


def flatten(x: jax.Array, clip: int) -> jax.Array:
  """Frames [B T ...] -> clips [B·T/clip clip ...].

  The clips lie over data, fsdp and seq.
  """
  batch, frames = x.shape[:2]
  layout = frame_layout((batch, frames), clip)
  x = x.reshape(layout.rows, batch // layout.rows, layout.parts, -1, clip, *x.shape[2:])
  x = jnp.swapaxes(x, 1, 2)  # [rows parts B/rows T/parts/clip clip ...]
  x = x.reshape(-1, *x.shape[4:])
  return constrain(x, layout.words + " -" * (x.ndim - 1))


def unflatten(x: jax.Array, batch: int, frames: int) -> jax.Array:
  """Inverse of `flatten`, for features: [B·T/clip clip ...] -> [B T ...]."""
  rows, parts, over_time = frame_layout((batch, frames), x.shape[1])
  x = x.reshape(rows, parts, batch // rows, frames // parts, *x.shape[2:])
  x = jnp.swapaxes(x, 1, 2)  # [rows B/rows parts T/parts ...]
  x = x.reshape(batch, frames, *x.shape[4:])
  row_word = "batch" if rows > 1 else "-"
  time_word = over_time if parts > 1 else "-"
  return constrain(x, f"{row_word} {time_word}" + " -" * (x.ndim - 2))


def cut(clips: jax.Array, layout: FrameLayout, chunk: int) -> jax.Array:
  """Flattened clips [n ...] -> steps [steps devices·chunk ...].

  At every step each device has `chunk` clips of its own. The last step is filled with zeros.
  """
  devices = layout.rows * layout.parts
  shape = clips.shape[1:]
  by_device = clips.reshape(devices, -1, *shape)
  padding = [(0, 0)] * by_device.ndim
  padding[1] = (0, -by_device.shape[1] % chunk)
  by_device = jnp.pad(by_device, padding)
  steps = by_device.reshape(devices, -1, chunk, *shape)
  steps = jnp.moveaxis(steps, 1, 0)  # [steps devices chunk ...]
  steps = steps.reshape(steps.shape[0], devices * chunk, *shape)
  return constrain(steps, f"- {layout.words}" + " -" * (steps.ndim - 2))


def joined(steps: jax.Array, layout: FrameLayout, count: int) -> jax.Array:
  """Inverse of `cut`, for features: [steps devices·chunk ...] -> [count ...]."""
  devices = layout.rows * layout.parts
  x = steps.reshape(steps.shape[0], devices, -1, *steps.shape[2:])
  x = jnp.moveaxis(x, 0, 1)  # [devices steps chunk ...]
  shape = x.shape[3:]
  x = x.reshape(devices, -1, *shape)
  x = x[:, : count // devices].reshape(count, *shape)
  return constrain(x, layout.words + " -" * (x.ndim - 1))
