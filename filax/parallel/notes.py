# SPDX-License-Identifier: Apache-2.0
"""Short texts that one process leaves for the others, through jax's coordination service.

They need no device, so that a process may wait long for one.
"""

import jax
from jax._src import distributed


def write(key: str, text: str) -> None:
  """Leaves `text` for all processes. A key is written once in the life of a run's processes."""
  distributed.global_state.client.key_value_set(key, text)


def read(key: str, seconds: float) -> str:
  """The text of a key, waiting for it. Raises TimeoutError."""
  try:
    return distributed.global_state.client.blocking_key_value_get(key, int(seconds * 1000))
  except jax.errors.JaxRuntimeError as error:
    raise TimeoutError(f"No process said {key!r} within {seconds:.0f} s ({error}).") from error


def read_if_there(key: str) -> str | None:
  """The text of a key; None if nobody wrote it yet."""
  try:
    return distributed.global_state.client.key_value_try_get(key)
  except jax.errors.JaxRuntimeError:
    return None


def meet(key: str, seconds: float) -> None:
  """Returns when all processes have come to `key`, each of which is used once.

  Raises TimeoutError.
  """
  try:
    distributed.global_state.client.wait_at_barrier(key, int(seconds * 1000))
  except jax.errors.JaxRuntimeError as error:
    raise TimeoutError(
      f"Not all processes came to {key!r} within {seconds:.0f} s ({error}).") from error
