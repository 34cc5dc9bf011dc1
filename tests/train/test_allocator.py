# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

CODE = """\
import numpy, resource
from filax.train.allocator import keep_freed_memory
kept = keep_freed_memory()
def touch():
  return numpy.ones(64 << 20, numpy.uint8).sum()
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
@pytest.mark.parametrize(
  "variables, kept",
  [
    ({}, True),
    (dict(MALLOC_ARENA_MAX="2"), False),
    (dict(GLIBC_TUNABLES="glibc.malloc.arena_max=2"), False),
    (dict(GLIBC_TUNABLES="glibc.rtld.nns=4"), True),
  ],
)
def test_a_freed_block_is_used_again(variables, kept):
  environment = {
    key: x for key, x in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))
  }
  environment |= dict(JAX_PLATFORMS="cpu") | variables
  out = subprocess.run(
    [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
  ).stdout
  flag, faults = out.split()
  assert flag == str(kept)
  if kept:  # A new block has 16,384 pages, or 32 huge ones, where the kernel gives those.
    assert int(faults) < 30
