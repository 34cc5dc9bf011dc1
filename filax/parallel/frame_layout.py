# SPDX-License-Identifier: Apache-2.0
"""Arranges frames as the batch of an encoder, without moving them between devices.

An encoder takes a batch of clips, so the rows B and the times T of frames [B T] become one axis.
Each device holds some rows, and some part of their time. A plain reshape would put the clips of one
device far apart in the new axis, and clips would move between devices. Here the order along the new
axis follows the mesh instead, so that no frame moves. `unflatten` restores the order of [B T].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from filax.parallel.rules import constrain


class FrameLayout(NamedTuple):
  """Numbers of device groups along the rows and along time."""

  rows: int  # Groups of devices along the rows.
  parts: int  # Groups of devices along time.
  time_word: str = "seq"  # Dimension word of time; "frames" if it is split over all mesh axes.

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

  `clip` neighbouring frames stay together. A dimension that does not divide evenly is not split. If
  the rows do not divide (a single video, for example), time is split over all mesh axes, provided
  that it divides.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return FrameLayout(rows=1, parts=1)
  batch, frames = shape
  row_groups = mesh.shape["data"] * mesh.shape["fsdp"]
  time_groups = mesh.shape["seq"]
  rows_divide = batch % row_groups == 0
  time_divides = frames % (time_groups * clip) == 0
  if rows_divide:
    return FrameLayout(row_groups, time_groups if time_divides else 1)
  all_groups = row_groups * time_groups
  if frames % (all_groups * clip) == 0:
    return FrameLayout(1, all_groups, "frames")
  return FrameLayout(1, time_groups if time_divides else 1)


def flatten(x: jax.Array, clip: int) -> jax.Array:
  """Frames [B T ...] -> clips [B·T/clip clip ...].

  The clips are sharded over data, fsdp and seq.
  """
  batch, frames, *frame_shape = x.shape
  layout = frame_layout((batch, frames), clip)
  x = x.reshape(layout.rows, batch // layout.rows, layout.parts, -1, clip, *frame_shape)
  x = jnp.swapaxes(x, 1, 2)  # [rows parts B/rows T/parts/clip clip ...]
  clips = x.reshape(-1, clip, *frame_shape)
  return constrain(clips, layout.words + " -" * (clips.ndim - 1))


def unflatten(x: jax.Array, batch: int, frames: int) -> jax.Array:
  """Inverse of `flatten`, for features: [B·T/clip clip ...] -> [B T ...]."""
  _, clip, *feature_shape = x.shape
  rows, parts, split_time_word = frame_layout((batch, frames), clip)
  x = x.reshape(rows, parts, batch // rows, frames // parts, *feature_shape)
  x = jnp.swapaxes(x, 1, 2)  # [rows B/rows parts T/parts ...]
  x = x.reshape(batch, frames, *feature_shape)
  row_word = "batch" if rows > 1 else "-"
  time_word = split_time_word if parts > 1 else "-"
  return constrain(x, f"{row_word} {time_word}" + " -" * (x.ndim - 2))


def cut(clips: jax.Array, layout: FrameLayout, chunk: int) -> jax.Array:
  """Cuts flattened clips [n ...] into steps [steps devices·chunk ...].

  At every step each device has `chunk` of its own clips. Zeros fill up the last step.
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
