# SPDX-License-Identifier: Apache-2.0
"""Short texts that processes exchange through the store of jax.distributed.

It needs no device, so it works before anything is compiled and while devices wait.
"""

import contextlib
import sys
import time
from typing import Any

from jax._src import distributed  # The store has no public name.

_WAIT_MS = 10_000  # The longest wait of one request; longer waits repeat the request.
_SILENT_SECONDS = 60.0


def connected() -> bool:
  """Whether this process has joined others."""
  return distributed.global_state.client is not None


def index() -> int:
  """The number of this process.

  Unlike jax.process_index, it waits for no device.
  """
  return distributed.global_state.process_id


def count() -> int:
  """The number of processes that have joined."""
  return distributed.global_state.num_processes


def _client() -> Any:
  """The client of the store; its class has no public name."""
  client = distributed.global_state.client
  if client is None:
    raise AttributeError("This process has not joined others, so it has no store.")
  return client


def put(key: str, text: str) -> bool:
  """Stores `text` under `key`.

  False if the key is taken or the store is gone.
  """
  try:
    _client().key_value_set(key, text)
  except RuntimeError:
    return False
  return True


def get(key: str) -> str | None:
  """The text under `key`.

  None if there is no such key, or the store is gone.
  """
  try:
    return _client().key_value_try_get(key)
  except RuntimeError:
    return None


def remove(folder: str) -> None:
  """Removes all keys below `folder`; nothing happens if the store is gone."""
  with contextlib.suppress(RuntimeError):
    _client().key_value_delete(f"{folder}/")


def wait(key: str, what: str = "") -> str:
  """Waits for the text under `key`; names `what` after a minute.

  There is no time limit: a process that fails ends this one too (filax.parallel.ending), and
  jax.distributed notices one that died.
  """
  began = time.monotonic()
  silent = bool(what)
  while True:
    if silent and time.monotonic() - began > _SILENT_SECONDS:
      print(f"Waiting for {what}.", file=sys.stderr, flush=True)
      silent = False
    try:
      return _client().blocking_key_value_get(key, _WAIT_MS)
    except RuntimeError as error:
      if "DEADLINE_EXCEEDED" not in str(error):
        raise ConnectionError(f"The processes of the run lost each other: {error}") from error


def barrier(key: str, seconds: float) -> None:
  """Waits until all processes have reached `key`.

  A key can be used once. Raises TimeoutError after `seconds`.
  """
  try:
    _client().wait_at_barrier(key, int(seconds * 1000))
  except RuntimeError as error:
    raise TimeoutError(
      f"Not all processes reached the point {key!r} within {seconds:.0f} s ({error})."
    ) from error
