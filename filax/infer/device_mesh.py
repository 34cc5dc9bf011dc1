# SPDX-License-Identifier: Apache-2.0
"""Meshes of all devices for inference, by what the devices share."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from filax.models.components import build_video_lm, dims_table, parameter_shapes
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules

ROWS = "rows"  # Every device has all parameters, and a part of a batch.
PARAMETERS = "parameters"  # Every device has a part of the parameters.


def make_device_mesh(
  layout: Mapping[str, int] | str | None,
  config: Mapping[str, Any],
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh | None:
  """The mesh of sizes or of a layout; None for one device.

  `config`: config.model. `devices`: default: all. Raises ValueError naming config.mesh if sizes do
  not fit the devices.
  """
  if layout is None:
    return None
  devices = jax.devices() if devices is None else devices
  if not isinstance(layout, str):
    return mesh_lib.make_mesh(layout, devices)
  if layout not in (ROWS, PARAMETERS):
    raise ValueError(
      f"mesh={layout!r} is not a layout. Set it to {ROWS} or {PARAMETERS}, or to sizes."
    )
  if len(devices) == 1:
    return None
  if layout == ROWS:
    return mesh_lib.make_mesh(dict(data=-1), devices)
  return _mesh_of_parameters(config, devices)


def _mesh_of_parameters(
  config: Mapping[str, Any], devices: Sequence[jax.Device]
) -> jax.sharding.Mesh | None:
  """The mesh that splits heads as far as possible, and then widths.

  None if the parameters do not split evenly over all devices.
  """
  shapes = parameter_shapes(build_video_lm(config))
  table = dims_table(config)
  count = len(devices)
  for tensor in range(count, 0, -1):
    if count % tensor:
      continue
    mesh = mesh_lib.make_mesh(dict(tensor=tensor, fsdp=-1), devices)
    try:
      rules.parameter_shardings(table, shapes, mesh)
    except ValueError:  # A dimension does not split this many ways.
      continue
    return mesh
  return None
