# SPDX-License-Identifier: Apache-2.0
"""Start-up barrier that reports missing processes.

The runtime itself ends a process whose peers are missing, without naming them. Process 0 listens,
the others connect; when all have connected, or time is up, it tells them.
"""

from collections.abc import Mapping, Sequence
import contextlib
import errno
import socket
import time

from filax.host_limits import allow_open_files

_GRACE = 10.0  # Seconds by which process 0 may start later than the others.
_OTHER_FILES = 512  # Beside connections.
_GO = "go"


def wait_for_all(address: tuple[str, int], processes: int, index: int, seconds: float) -> None:
  """Waits until all `processes` have connected to `address`.

  address: (host, port), where process 0 runs; an address of IPv6 may be in brackets. Raises
  Missing, in every connected process, if some are missing after `seconds`, and ConnectionError on
  process 0 if the port is in use.
  """
  deadline = time.monotonic() + seconds
  if index == 0:
    _receive_all(address[1], processes, deadline)
  else:
    host, port = address
    _call_first_process((host.removeprefix("[").removesuffix("]"), port), index, deadline)


class Missing(ConnectionError):
  """Some processes did not connect: `indices`."""

  def __init__(self, indices: Sequence[int]):
    super().__init__(f"processes {list(indices)} did not come")
    self.indices = list(indices)


def check_free(port: int) -> None:
  """Raises ConnectionError if this machine cannot listen at `port`."""
  _listen(port).close()


def _listen(port: int) -> socket.socket:
  """Listens on all addresses, of IPv4 and of IPv6."""
  try:
    if socket.has_dualstack_ipv6():
      try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
      except OSError as error:
        if error.errno == errno.EADDRINUSE:
          raise
    return socket.create_server(("", port))  # IPv6 is switched off.
  except OSError as error:
    reason = error.strerror or str(error)
    raise ConnectionError(
      f"This machine cannot listen at port {port} ({reason.split(' (')[0]}). End what uses it, or "
      "set FILAX_COORDINATOR (launch/local.sh --port) to two free ports, that one and the next."
    ) from error


def _receive_all(port: int, processes: int, deadline: float) -> None:
  """Waits on process 0 for the calls of the others; answers them."""
  allow_open_files(2 * processes + _OTHER_FILES)  # The runtime's store connects to each, too.
  callers: dict[int, socket.socket] = {}
  with contextlib.ExitStack() as stack:
    server = stack.enter_context(_listen(port))
    while len(callers) < processes - 1:
      seconds = deadline - time.monotonic()
      if seconds <= 0:
        break
      server.settimeout(seconds)
      with contextlib.suppress(OSError, ValueError):  # Time is up, or an unknown caller.
        caller, index = _accept(server)
        if 0 < index < processes:
          callers[index] = stack.enter_context(caller)
    missing = sorted(set(range(1, processes)) - callers.keys())
    _answer(callers, missing)
  if missing:
    raise Missing(missing)


def _accept(server: socket.socket) -> tuple[socket.socket, int]:
  """(connection, index) of the next process that connects."""
  caller, _ = server.accept()
  caller.settimeout(5.0)
  return caller, int(_receive_line(caller))


def _answer(callers: Mapping[int, socket.socket], missing: Sequence[int]) -> None:
  text = ",".join(map(str, missing)) or _GO
  for caller in callers.values():
    _send_line(caller, text)


def _call_first_process(address: tuple[str, int], index: int, deadline: float) -> None:
  """Connects to process 0 until it answers."""
  while time.monotonic() < deadline:
    try:
      with socket.create_connection(address, timeout=2.0) as server:
        _send_line(server, str(index))
        server.settimeout(max(1.0, deadline - time.monotonic() + _GRACE))
        answer = _receive_line(server)
      if answer == _GO:
        return
      raise Missing(list(map(int, answer.split(","))))
    except Missing:
      raise
    except (OSError, ValueError):
      time.sleep(0.2)  # Process 0 has not started, or has ended.
  raise Missing([0])


def _send_line(target: socket.socket, text: str) -> None:
  target.sendall(f"{text}\n".encode())


def _receive_line(source: socket.socket) -> str:
  """One short line of text."""
  with source.makefile("r", encoding="ascii", errors="replace") as file:
    return file.readline(4096).strip()
