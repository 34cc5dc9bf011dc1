# SPDX-License-Identifier: Apache-2.0
"""XLA_FLAGS of the tests and of the processes that they start. Nothing here may import jax."""

QUICK = "--xla_backend_optimization_level=0"  # Compiling is most of the time, and shapes are tiny.
EIGHT = f"{QUICK} --xla_force_host_platform_device_count=8"
FOUR = f"{QUICK} --xla_force_host_platform_device_count=4"
