# SPDX-License-Identifier: Apache-2.0
"""The device mesh `data fsdp seq tensor`; a config sets the sizes."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import functools
import math
import os

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh
import numpy as np

from filax.parallel.rules import MESH

_NO_MESH = Mesh(np.empty((), object), ())


def on_mesh(mesh: Mesh | None) -> contextlib.AbstractContextManager:
  """The context of programs on a mesh, or on one device (None).

  A mesh that the caller has set (jax.set_mesh) does not count inside. Raises RuntimeError in a
  fork.
  """
  _check_no_fork()
  if mesh is None and jax.sharding.get_abstract_mesh().empty:
    return contextlib.nullcontext()
  return jax.set_mesh(_NO_MESH if mesh is None else mesh)


@contextlib.contextmanager
def without_mesh() -> Iterator[None]:
  """A context, or decorator, without a mesh of the user's own.

  jax refuses arrays on other devices than those of the mesh that is set. Raises RuntimeError in a
  fork.
  """
  _check_no_fork()
  axes = jax.sharding.get_abstract_mesh().axis_names
  is_users = bool(axes) and axes != MESH
  with on_mesh(None) if is_users else contextlib.nullcontext():
    yield


@functools.cache
def _process_of_devices() -> int:
  """The process that was the first to use the devices."""
  return os.getpid()


def _check_no_fork() -> None:
  """Raises RuntimeError in a fork of the process of the devices.

  The threads of JAX do not exist there, so that any work on the devices would hang.
  """
  if _process_of_devices() != os.getpid():
    raise RuntimeError(
      "This process is a fork of one that uses JAX, and would hang. Use threads, which may share a "
      'session, or start processes with multiprocessing.get_context("spawn"), and load in each.'
    )


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh of `sizes`; a size of -1 takes the remaining devices.

  sizes: e.g. dict(data=1, fsdp=-1, seq=1, tensor=1), with at most one -1. Devices of several
  slices, which are joined only by the data centre's network, differ along data, or else along fsdp.
  Raises ValueError if a name is unknown, the sizes do not multiply to the number of devices, or
  slices do not fit.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = resolve_sizes(sizes, len(devices))
  shape = tuple(sizes.values())
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices == 1:
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  else:
    grid = _grid_of_slices(shape, slices, _slice_axis(sizes, slices), devices)
  return Mesh(grid, MESH, axis_types=(AxisType.Auto,) * len(MESH))


def _grid_of_slices(shape: Sequence[int], slices: int, axis: str, devices: Sequence[jax.Device]):
  """Devices of several slices as an array; `axis` crosses slices."""
  place = MESH.index(axis)
  across = [1] * len(MESH)
  across[place] = slices
  inside = list(shape)
  inside[place] //= slices
  return mesh_utils.create_hybrid_device_mesh(
    tuple(inside), tuple(across), devices=devices, allow_split_physical_axes=True
  )


def _slice_axis(sizes: Mapping[str, int], slices: int) -> str:
  """The axis whose neighbours may be in different slices."""
  for axis in ("data", "fsdp"):
    if sizes[axis] % slices == 0:
      return axis
  raise ValueError(
    f"The devices are in {slices} slices, which config.mesh.data={sizes['data']} or "
    f"config.mesh.fsdp={sizes['fsdp']} must join. Set one of them to a multiple of {slices}."
  )


def resolve_sizes(sizes: Mapping[str, int], devices: int) -> dict[str, int]:
  """The sizes of all axes, whose product is `devices`.

  -1 becomes the remaining factor. Raises ValueError.
  """
  if unknown := sorted(set(sizes) - set(MESH)):
    raise ValueError(f"config.mesh.{unknown[0]} is not an axis. The axes are {', '.join(MESH)}.")
  sizes = dict.fromkeys(MESH, 1) | dict(sizes)
  text = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = [size for size in sizes.values() if size != -1]
  if len(free) > 1 or min(fixed, default=1) < 1:
    raise ValueError(f"config.mesh ({text}) must hold positive sizes, at most one of them -1.")
  product = math.prod(fixed)
  if devices % product or (not free and product != devices):
    raise ValueError(
      f"config.mesh ({text}) needs {'a multiple of ' if free else ''}{product} devices, but there "
      f"are {devices}. Set one axis to -1, or sizes whose product is {devices}."
    )
  for axis in free:
    sizes[axis] = devices // product
  return sizes
