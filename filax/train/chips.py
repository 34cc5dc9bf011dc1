# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of TPUs, and the memory of the devices in use."""

from collections.abc import Sequence
import dataclasses

import jax

from filax import host_limits

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Memory and speed of one chip, as its manufacturer states them."""

  hbm: float  # Bytes that a program may use.
  flops: float  # Dense bfloat16 FLOPs a second.
  memory: float  # Bytes a second from HBM.
  link: float  # Bytes a second along one axis of the torus, both directions together.
  axes: int  # Number of axes of the torus.
  slices: str  # Some of the shapes that exist.


# cloud.google.com/tpu/docs/{v5e,v5p,v6e}; usable HBM as the compiler states it.
CHIPS = {
  "v5e": Chip(15.75 * GIB, 197e12, 0.81e12, 0.9e11, 2, "2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16"),
  "v5p": Chip(95.74 * GIB, 459e12, 2.77e12, 1.8e11, 3, "2x2x1, 2x2x2, 2x4x4, 4x4x4, 4x4x8, 8x8x8"),
  "v6e": Chip(31.25 * GIB, 918e12, 1.64e12, 1.8e11, 2, "2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16"),
}
_KINDS = {  # Part of jax.Device.device_kind -> kind of chip. The first match wins.
  "TPU v5 lite": "v5e",
  "TPU v5e": "v5e",
  "TPU v5": "v5p",
  "TPU v6": "v6e",
}
UNKNOWN_BYTES = 16 * GIB  # Assumed for a device that does not state its memory.
_HOST_SHARE = 0.5  # The share of host memory for CPU devices; the rest is for data and saving.


def usable_bytes(devices: Sequence[jax.Device]) -> float:
  """Bytes that a program may use on each of this process's devices.

  TPUs are in a table, GPUs state a limit, CPUs share half of the host's memory.
  """
  local = [device for device in devices if device.process_index == jax.process_index()]
  device = local[0] if local else devices[0]
  for part, kind in _KINDS.items():
    if part in device.device_kind:
      return CHIPS[kind].hbm
  if device.platform == "cpu":
    return host_limits.usable_memory() * _HOST_SHARE / max(1, len(local))
  statistics = device.memory_stats() or {}
  return float(statistics.get("bytes_limit", UNKNOWN_BYTES))
