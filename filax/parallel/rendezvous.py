# SPDX-License-Identifier: Apache-2.0
"""All processes of a run wait for each other, so that the one that does not come can be named.

The runtime itself ends a process whose peers are missing, without saying which. Process 0 listens,
the others call; when all have come, or time is up, it tells them.
"""

from collections.abc import Sequence
import socket
import time

_GRACE = 10.0  # Seconds that the first process may have started later than the others.
_GO = "go"


def meet(address: tuple[str, int], processes: int, index: int, seconds: float) -> None:
  """Returns when all `processes` have met at `address` (host, port), where process 0 runs.

  Raises Missing, in every process that came, if some did not within `seconds`, and ConnectionError
  on process 0 if the port is in use.
  """
  deadline = time.monotonic() + seconds
  if index == 0:
    _wait(address[1], processes, deadline)
  else:
    _call(address, index, deadline)


class Missing(ConnectionError):
  """Processes that did not come: `indices`."""

  def __init__(self, indices: Sequence[int]):
    super().__init__(f"processes {list(indices)} did not come")
    self.indices = list(indices)


def check_free(port: int) -> None:
  """Raises ConnectionError if this machine cannot listen at `port`."""
  _listening(port).close()


def _listening(port: int) -> socket.socket:
  try:
    return socket.create_server(("", port), reuse_port=False)
  except OSError as error:
    reason = error.strerror or str(error)
    raise ConnectionError(
      f"This machine cannot listen at port {port} ({reason.split(' (')[0]}). End what uses it, or "
      "set FILAX_COORDINATOR (launch/local.sh --port) to two free ports, that one and the next."
    ) from error


def _wait(port: int, processes: int, deadline: float) -> None:
  came: dict[int, socket.socket] = {}
  try:
    with _listening(port) as server:
      while len(came) < processes - 1 and (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
          caller, _ = server.accept()
          caller.settimeout(5.0)
          number = int(_line(caller))
        except (OSError, ValueError):
          continue  # Time is up, or somebody who is not one of us.
        if 0 < number < processes:
          came[number] = caller
      missing = [n for n in range(1, processes) if n not in came]
      for caller in came.values():
        _tell(caller, ",".join(map(str, missing)) or _GO)
  finally:
    for caller in came.values():
      caller.close()
  if missing:
    raise Missing(missing)


def _call(address: tuple[str, int], index: int, deadline: float) -> None:
  while time.monotonic() < deadline:
    try:
      with socket.create_connection(address, timeout=2.0) as server:
        _tell(server, str(index))
        server.settimeout(max(1.0, deadline - time.monotonic() + _GRACE))
        said = _line(server)
      if said == _GO:
        return
      raise Missing([int(n) for n in said.split(",")])
    except Missing:
      raise
    except (OSError, ValueError):
      time.sleep(0.2)  # Not there yet, or it is gone.
  raise Missing([0])


def _tell(to: socket.socket, text: str) -> None:
  to.sendall(f"{text}\n".encode())


def _line(source: socket.socket) -> str:
  """One short line of text."""
  with source.makefile("r", encoding="ascii", errors="replace") as file:
    return file.readline(4096).strip()
