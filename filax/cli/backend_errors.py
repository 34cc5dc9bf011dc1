# SPDX-License-Identifier: Apache-2.0
"""Errors that say that jax has no device of the kind that JAX_PLATFORMS names."""

import os
import traceback

_NO_BACKEND = "Unable to initialize backend"
_LONGEST = 200  # Letters of the reason.


def is_without_backend(error: BaseException) -> bool:
  """Whether jax found no device.

  It asserts that it has one if JAX_PLATFORMS=cuda and there is no GPU.
  """
  if isinstance(error, RuntimeError):
    return str(error).startswith(_NO_BACKEND)
  if not isinstance(error, AssertionError):
    return False
  frames = traceback.extract_tb(error.__traceback__)
  return bool(frames) and frames[-1].filename.endswith("xla_bridge.py")


def backend_sentence(error: BaseException) -> str:
  """What such an error says to a user, in one line."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  reason = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0][:_LONGEST]
  return (
    f"jax finds no device of JAX_PLATFORMS={platforms}{f': {reason}' if reason else ''}. Unset "
    "JAX_PLATFORMS, or set it to cpu; filax doctor shows the devices."
  )
