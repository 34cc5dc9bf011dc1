# SPDX-License-Identifier: Apache-2.0
"""Threads of XLA for several devices on one CPU."""

from collections.abc import MutableMapping
import os
import re

_DEVICES = re.compile(r"--xla_force_host_platform_device_count=(\d+)")
_THREADS = "NPROC"  # XLA reads it when its CPU devices are made.
_PER_DEVICE = 4


def give_threads(environment: MutableMapping[str, str]) -> None:
  """Gives XLA enough threads for the CPU devices that XLA_FLAGS asks for.

  A device that waits for others, in a collective, keeps a thread busy, and may wait in several
  collectives at a time. XLA has one thread per device by default, so all threads may wait for each
  other. After 40 seconds, XLA ends such a process.
  """
  counts = _DEVICES.findall(environment.get("XLA_FLAGS", ""))
  if not counts or _THREADS in environment:
    return
  devices = int(counts[-1])  # Of a flag that is given twice, the last one counts.
  if devices > 1:
    threads = max(_PER_DEVICE * devices, os.cpu_count() or 1)
    environment[_THREADS] = str(threads)
