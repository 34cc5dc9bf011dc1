# SPDX-License-Identifier: Apache-2.0
"""Every test runs on the CPU with eight pretended devices, checked shapes and full precision."""

import ctypes
import gc
import os
import pathlib
import resource

import compile_flags

os.environ["JAX_PLATFORMS"] = "cpu"  # Both are read when jax is imported first.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {compile_flags.EIGHT}"
os.environ.setdefault("NPROC", "32")  # As filax.virtual_devices does, which is imported later.
# The same tiny programs are compiled by many tests, and by the commands that they run.
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache/programs")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Of torch: its second thread mostly waits for the first, at full speed.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from absl import flags
import hypothesis
import jax
from jaxtyping import install_import_hook
import optional_packages
import psutil
import pytest

# Arrays are checked against the shapes in every signature. Nothing here may import filax earlier.
install_import_hook(["filax.ops", "filax.models"], "beartype.beartype")
jax.config.update("jax_default_matmul_precision", "highest")
flags.FLAGS.mark_as_parsed()
gc.set_threshold(100_000, 20, 50)  # Traces hold millions of objects that live as long as a test.
hypothesis.settings.register_profile(
  "filax", max_examples=25, deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("filax")

PROGRAMS_BOUND = 1_250_000_000  # Bytes of a test process, of which imports take 900 million.


def allow_open_files(count):
  """macOS lets a process open 256 files, of which servers and workers under test need more."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
  if soft != resource.RLIM_INFINITY and soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


allow_open_files(4096)


def pytest_pycollect_makemodule(module_path, parent):
  return optional_packages.Module.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items):
  """Slow files come first, so that no worker ends alone with one of them."""
  items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
  """Modules and tests live to the end, so the garbage collector need not look at them again."""
  gc.collect()
  gc.freeze()


def give_back_freed_pages():
  """Freed pages stay in a process of Linux otherwise."""
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Of glibc alone.
  if trim is not None:
    trim(0)


@pytest.fixture(scope="module", autouse=True)
def programs_of_a_file():
  """Drops traced and compiled programs after a file: hardly any is used by the next."""
  yield
  if psutil.Process().memory_info().rss > PROGRAMS_BOUND:
    jax.clear_caches()
    gc.collect()
    give_back_freed_pages()
