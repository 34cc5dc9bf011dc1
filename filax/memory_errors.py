# SPDX-License-Identifier: Apache-2.0
"""Errors that say that a device or the host has too little memory."""

import sys

_NO_ROOM = "RESOURCE_EXHAUSTED"  # The status of XLA.
_LONGEST = 200  # Letters of the reason; XLA's report of a GPU has thousands.


def is_out_of_memory(error: BaseException) -> bool:
  """Whether the device, or the host, had too little memory."""
  if isinstance(error, MemoryError):
    return True
  jax = sys.modules.get("jax")
  if jax is None:  # Nothing of jax has failed.
    return False
  return isinstance(error, jax.errors.JaxRuntimeError) and _NO_ROOM in str(error)


def memory_sentence(error: BaseException) -> str:
  """What such an error says to a user, in one line."""
  first_line = (str(error).splitlines() or [""])[0].removeprefix(f"{_NO_ROOM}: ").rstrip(". ")
  reason = first_line[:_LONGEST] or type(error).__name__
  return (
    f"There is too little memory: {reason}. Take less at a time (frames, tokens, answers, batch), "
    "or share the work over more devices."
  )
