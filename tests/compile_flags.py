# SPDX-License-Identifier: Apache-2.0
"""XLA_FLAGS of the tests and of the processes that they start. Nothing here may import jax."""

QUICK = (  # Compiling is most of the time, and shapes are tiny.
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
EIGHT = f"{QUICK} --xla_force_host_platform_device_count=8"
FOUR = f"{QUICK} --xla_force_host_platform_device_count=4"
