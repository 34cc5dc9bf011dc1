# SPDX-License-Identifier: Apache-2.0
"""The device mesh: always `data fsdp seq tensor`; a config only sets the sizes."""

from collections.abc import Mapping, Sequence
import math

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from filax.parallel.rules import MESH


def make(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh of `sizes`, e.g. dict(data=1, fsdp=-1, seq=1, tensor=1); one size may be -1 (the rest).

  Devices of several slices, which only the data centre's network joins, differ along data, or else
  along fsdp. Raises ValueError if a name is unknown, the sizes do not multiply to the number of
  devices, or slices do not fit.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = resolve(sizes, len(devices))
  slices = len({getattr(d, "slice_index", 0) for d in devices})
  types = (AxisType.Auto,) * len(MESH)
  if slices == 1:
    shape = tuple(sizes[a] for a in MESH)
    laid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(laid, MESH, axis_types=types)
  across = {axis: slices if axis == _across(sizes, slices) else 1 for axis in MESH}
  inside = tuple(sizes[a] // across[a] for a in MESH)
  laid = mesh_utils.create_hybrid_device_mesh(
    inside, tuple(across.values()), devices=devices, allow_split_physical_axes=True
  )
  return Mesh(laid, MESH, axis_types=types)


def _across(sizes: Mapping[str, int], slices: int) -> str:
  """The axis whose neighbours may be in different slices."""
  for axis in ("data", "fsdp"):
    if sizes[axis] % slices == 0:
      return axis
  raise ValueError(
    f"{slices} slices are joined along config.mesh.data={sizes['data']} or config.mesh.fsdp="
    f"{sizes['fsdp']}. Set one of them to a multiple of {slices}."
  )


def resolve(sizes: Mapping[str, int], devices: int) -> dict[str, int]:
  """The sizes with -1 replaced by what is left of `devices`."""
  if unknown := sorted(set(sizes) - set(MESH)):
    raise ValueError(f"config.mesh.{unknown[0]} is not an axis. The axes are {', '.join(MESH)}.")
  sizes = {axis: sizes.get(axis, 1) for axis in MESH}
  free = [axis for axis, size in sizes.items() if size == -1]
  given = math.prod(size for size in sizes.values() if size != -1)
  text = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
  if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
    raise ValueError(f"config.mesh ({text}) must hold positive sizes, at most one of them -1.")
  if devices % given or (not free and given != devices):
    raise ValueError(
      f"config.mesh ({text}) needs {given} devices times a whole number, but there are {devices}. "
      f"Set one axis to -1, or sizes whose product is {devices}."
    )
  return sizes | {axis: devices // given for axis in free}
