# SPDX-License-Identifier: Apache-2.0
"""Keeps the memory of a CPU's programs in the process.

XLA's temporaries on a CPU come from malloc. By default glibc returns large blocks to the system at
the end of every step, and the next step pays for every page again: a quarter of a small step.
"""

import ctypes
import os

import jax

_TRIM_THRESHOLD = -1  # Options of glibc's mallopt (malloc.h).
_TOP_PAD = -2
_MMAP_MAX = -4
_NEVER = -1
_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
  """Sets malloc to keep freed blocks, on a CPU backend with glibc.

  Returns whether it did. Settings of malloc in the environment (MALLOC_…, GLIBC_TUNABLES) stay.
  """
  if jax.default_backend() != "cpu" or _is_set_by_user():
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:  # Another C library.
    return False
  options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _PAD_BYTES))
  return all(mallopt(option, value) for option, value in options)


def _is_set_by_user() -> bool:
  """Whether the environment configures malloc."""
  tunables = os.environ.get("GLIBC_TUNABLES", "")
  return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ)
