# SPDX-License-Identifier: Apache-2.0
"""XLA_FLAGS of the tests and of the processes that they start. Nothing here may import jax."""

import importlib.metadata


def quick(jaxlib: str) -> str:
  """Flags that make compiling quick. A flag that this jaxlib does not know ends the process."""
  release = tuple(int(number) for number in jaxlib.split(".")[:2])
  flags = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",  # Each part costs; workers keep the cores busy.
  ]
  if release < (0, 12):
    flags.append("--xla_cpu_use_fusion_emitters=false")
  return " ".join(flags)


QUICK = quick(importlib.metadata.version("jaxlib"))  # Compiling is most of the time.
EIGHT = f"{QUICK} --xla_force_host_platform_device_count=8"
FOUR = f"{QUICK} --xla_force_host_platform_device_count=4"
