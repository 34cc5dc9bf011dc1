# SPDX-License-Identifier: Apache-2.0
"""Threads of XLA for several devices on one CPU.

This module is loaded by `import filax`, so it imports next to nothing.
"""

import os

_FLAG = "--xla_force_host_platform_device_count="
_VARIABLE = "JAX_NUM_CPU_DEVICES"
_THREADS = "NPROC"  # XLA reads it when its CPU devices are made.
_PER_DEVICE = 4


def give_threads() -> None:
  """Gives XLA enough threads for the CPU devices that are asked for.

  A device that waits for others, in a collective, keeps a thread busy, and may wait in several
  collectives at a time. XLA has one thread per device by default, so all threads may wait for each
  other. After 40 seconds, XLA ends such a process. A value of NPROC that is set stays.
  """
  devices = _device_count()
  if devices > 1:
    threads = max(_PER_DEVICE * devices, os.cpu_count() or 1)
    os.environ.setdefault(_THREADS, str(threads))


def _device_count() -> int:
  """The CPU devices that the environment asks for; 0 for the default."""
  asked = [os.environ.get(_VARIABLE, "")]
  for flag in os.environ.get("XLA_FLAGS", "").split():
    if flag.startswith(_FLAG):
      asked.append(flag.removeprefix(_FLAG))
  return max(int(count) if count.isdecimal() else 0 for count in asked)
