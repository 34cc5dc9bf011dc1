# SPDX-License-Identifier: Apache-2.0
"""Every test runs on the CPU with eight pretended devices, checked shapes and full precision."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # Both are read when jax is imported first.
os.environ["XLA_FLAGS"] = (  # Compiling is most of the time, and shapes are tiny.
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
  " --xla_backend_optimization_level=0")

from absl import flags
import hypothesis
import jax
from jaxtyping import install_import_hook

# Arrays are checked against the shapes in every signature. Nothing here may import filax earlier.
install_import_hook(["filax.ops", "filax.models"], "beartype.beartype")
jax.config.update("jax_default_matmul_precision", "highest")
flags.FLAGS.mark_as_parsed()
hypothesis.settings.register_profile(
  "filax", max_examples=25, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("filax")
