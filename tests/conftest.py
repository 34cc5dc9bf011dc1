# SPDX-License-Identifier: Apache-2.0
"""Every test runs on the CPU with eight pretended devices, checked shapes and full precision."""

import gc
import os
import pathlib

import compile_flags

os.environ["JAX_PLATFORMS"] = "cpu"  # Both are read when jax is imported first.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {compile_flags.EIGHT}"
# The same tiny programs are compiled by many tests, and by the commands that they run.
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache/programs")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from absl import flags
import hypothesis
import jax
from jaxtyping import install_import_hook
import optional_packages

# Arrays are checked against the shapes in every signature. Nothing here may import filax earlier.
install_import_hook(["filax.ops", "filax.models"], "beartype.beartype")
jax.config.update("jax_default_matmul_precision", "highest")
flags.FLAGS.mark_as_parsed()
gc.set_threshold(100_000, 20, 50)  # Traces hold millions of objects that live as long as a test.
hypothesis.settings.register_profile(
  "filax", max_examples=25, deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("filax")

LONG = (  # Files that take minutes.
  "test_two_processes",
  "test_any_mesh",
  "test_resume",
  "test_readme",
  "test_configs",
  "test_convert_fila",
  "test_convert_verify",
  "test_convert_llava",
  "test_moves",
)


def pytest_pycollect_makemodule(module_path, parent):
  return optional_packages.Module.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items):
  """Long files come first, so that no worker ends alone with one of them."""
  items.sort(key=lambda item: item.path.stem not in LONG)
