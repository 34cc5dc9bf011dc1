# SPDX-License-Identifier: Apache-2.0
"""The device that a program is traced for."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Device:
  """A platform; for a GPU its compute capability, (9, 0) for Hopper."""

  platform: str
  capability: tuple[int, int] = (0, 0)


def device_in_use() -> Device:
  """The device of the mesh in use, else the default device.

  A mesh may exist only for the compiler.
  """
  mesh = jax.sharding.get_abstract_mesh()
  platform = jax.default_backend()
  if not mesh.empty and mesh.abstract_device is not None:
    platform = mesh.abstract_device.platform
  platform = "gpu" if platform == "cuda" else platform
  if platform != "gpu" or jax.default_backend() != "gpu":
    return Device(platform)
  major, minor = jax.local_devices()[0].compute_capability.split(".")
  return Device(platform, (int(major), int(minor)))


def rows_are_local() -> bool:
  """Whether the traced program has whole rows on each device."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return True
  return all(kind == jax.sharding.AxisType.Manual for kind in mesh.axis_types)
