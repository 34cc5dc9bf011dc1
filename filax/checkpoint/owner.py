# SPDX-License-Identifier: Apache-2.0
"""The owner of a workdir, recorded as a process.

It is recognised across hosts, containers and restarts.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import socket
import time
from typing import Any
import uuid

from filax import processes

RECORD_BYTES = 1024  # Stored size of a record: rewriting it never grows the file.
_LONGEST_PATH = 400  # Of a record; a longer one is left out.
_PROC = pathlib.Path("/proc")
_STOPPED_STATES = ("T", "t")  # By a signal, or by a debugger.


@dataclasses.dataclass(frozen=True)
class Owner:
  """A process that holds a workdir, as recorded in the lease file."""

  run: str  # A unique name of this start.
  host: str
  pid: int
  started: str  # Process start in ticks after the host's boot; "" if unknown.
  boot: str  # Boot id of the host; a restart changes it.
  namespace: str  # PID namespace; containers have their own.
  since: str  # Only for messages: wall clocks are never compared.
  stale_seconds: float  # The owner has ended if its number stands still for this long.
  beat: int = 0
  path: str = ""  # Of the folder as the owner's host names it; "" for a bucket.

  def to_bytes(self) -> bytes:
    """JSON, padded to RECORD_BYTES."""
    text = json.dumps(dataclasses.asdict(self))
    return text.encode().ljust(RECORD_BYTES - 1) + b"\n"

  def __str__(self) -> str:
    return f"process {self.pid} on host {self.host}, since {self.since}"


def this_process(stale_seconds: float, path: str = "") -> Owner:
  """An owner record for a new run of this process.

  path: of the folder it owns.
  """
  pid = os.getpid()
  started = str(processes.process_start(pid) or "")
  return Owner(
    run=uuid.uuid4().hex,
    host=socket.gethostname()[:255],
    pid=pid,
    started=started,
    boot=_boot(),
    namespace=_namespace(),
    since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    stale_seconds=stale_seconds,
    path=path if len(path) <= _LONGEST_PATH else "",
  )


def decode_owner(data: bytes) -> Owner | None:
  """The owner in a lease file; None for invalid bytes."""
  try:
    values = {"path": "", **json.loads(data)}  # Earlier versions wrote no path.
    return Owner(**values) if _is_record(values) else None
  except (ValueError, TypeError, RecursionError):
    return None


def is_dead(owner: Owner) -> bool:
  """Whether the owner certainly is an ended process of this host."""
  if not is_visible(owner):
    return False
  return not processes.process_runs(owner.pid, int(owner.started or 0))


def is_alive(owner: Owner) -> bool:
  """Whether the owner certainly is a running process of this host.

  False for one that is stopped.
  """
  if not is_visible(owner) or is_dead(owner):
    return False
  if processes.process_state(owner.pid) in _STOPPED_STATES:
    return False
  return not processes.is_ending(owner.pid)


def _is_record(values: Mapping[str, Any]) -> bool:
  for field in dataclasses.fields(Owner):
    kinds = (int, float) if field.type is float else field.type
    if not isinstance(values.get(field.name), kinds):  # type: ignore[arg-type]  # Classes, no text.
      return False
  if values["started"] and not values["started"].isdigit():
    return False
  return values["pid"] > 0 and values["stale_seconds"] > 0


def is_visible(owner: Owner) -> bool:
  """Whether the owner's process number means the same process here.

  Equal host names alone prove nothing: containers and machines share names.
  """
  if not owner.boot:
    return not _boot() and owner.host == socket.gethostname()[:255]
  return owner.boot == _boot() and owner.namespace == _namespace()


def _boot() -> str:
  try:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
  except OSError:
    return ""


def _namespace() -> str:
  try:
    return str(os.stat(_PROC / "self/ns/pid").st_ino)
  except OSError:
    return ""
