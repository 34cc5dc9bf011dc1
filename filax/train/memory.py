# SPDX-License-Identifier: Apache-2.0
"""Hooks for memory: device usage lines and scheduled garbage collection.

No run has them by default: pass them to `filax.run_training(config, workdir, hooks=[…])`.
"""

from collections.abc import Mapping
import gc

import jax

from filax.checkpoint.store import say
from filax.train.hooks import Hook, RunFacts

_GIB = 2**30


class MemoryLines(Hook):
  """Prints the use of the fullest device every `every` steps.

  Each process looks at its own devices. Nothing is printed where devices keep no statistics, as on
  CPUs.
  """

  def __init__(self, every: int = 100):
    self._every = every

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    if number % self._every:
      return
    statistics = [device.memory_stats() for device in jax.local_devices()]
    line = memory_line(number, [entry for entry in statistics if entry])
    if line:
      say(line)


class GarbageCollection(Hook):
  """Collects Python's garbage every `every` steps and at no other time.

  Otherwise each process collects when Python decides to, and in a run of many processes every step
  may wait for another one of them.
  """

  def __init__(self, every: int = 1000):
    self._every = every
    self._was_enabled = True

  def begin(self, run: RunFacts) -> None:
    self._was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    if number % self._every == 0:
      gc.collect()

  def end(self, error: BaseException | None) -> None:
    if self._was_enabled:
      gc.enable()


def memory_line(number: int, statistics: list[dict[str, int]]) -> str:
  """One line about the fullest device; "" without statistics.

  statistics: jax.Device.memory_stats of each device.
  """
  if not statistics:
    return ""
  fullest = max(statistics, key=lambda entry: entry["peak_bytes_in_use"])
  used = fullest["bytes_in_use"] / _GIB
  peak = fullest["peak_bytes_in_use"] / _GIB
  line = f"step {number}: {used:.1f} GiB in use, {peak:.1f} GiB at most"
  if "bytes_limit" in fullest:
    line += f", of {fullest['bytes_limit'] / _GIB:.1f} GiB"
  return f"{line} on the fullest of {len(statistics)} devices"
