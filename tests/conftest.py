# SPDX-License-Identifier: Apache-2.0
"""Every test runs on the CPU with eight pretended devices, checked shapes and full precision."""

import os

import compile_flags

os.environ["JAX_PLATFORMS"] = "cpu"  # Both are read when jax is imported first.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {compile_flags.EIGHT}"

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
