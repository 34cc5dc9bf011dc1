# SPDX-License-Identifier: Apache-2.0
"""Ports of this machine on which nobody listens.

They lie below those that Linux gives to connections, and every test worker has a range of its own:
so nobody takes a port between the test that found it and the process that uses it.
"""

import itertools
import os
import socket

_FIRST = 10_000
_RANGE = 1000  # Ports of a worker.

_offsets = itertools.count(os.getpid() * 2 % _RANGE, 2)  # Sessions begin at other places.


def free_port() -> int:
  """A free port whose next one is free, too: a run of several processes uses both.

  Raises OSError if the worker's range has none.
  """
  for _ in range(_RANGE // 2):
    port = _FIRST + _RANGE * _worker() + next(_offsets) % _RANGE
    if _is_free(port) and _is_free(port + 1):
      return port
  raise OSError(f"No port of {_FIRST + _RANGE * _worker()} and the {_RANGE} after it is free.")


def _worker() -> int:
  """The number of this test worker; 0 without workers."""
  return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20


def _is_free(port: int) -> bool:
  with socket.socket() as probe:
    try:
      probe.bind(("127.0.0.1", port))
    except OSError:
      return False
  return True
