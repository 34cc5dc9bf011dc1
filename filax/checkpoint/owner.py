# SPDX-License-Identifier: Apache-2.0
"""Who holds a workdir: a process, named so that it can be told from all others."""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import socket
import time
from typing import Any
import uuid

from filax import files

RECORD_BYTES = 1024  # Of a record as it is stored: rewriting it never needs a larger file.
_PROC = pathlib.Path("/proc")
_ENDED_STATES = "ZX"  # Of /proc/<pid>/stat: the process is over, nobody has asked for its code yet.
_STOPPED_STATES = "Tt"


@dataclasses.dataclass(frozen=True)
class Owner:
  """A process that holds a workdir, as the lease file tells."""

  run: str  # A name of this start that no other start has.
  host: str
  pid: int
  started: str  # Of the process, in ticks since the host's boot; "" where the system does not tell.
  boot: str  # Of the host; a restart changes it.
  namespace: str  # Of process numbers; containers have their own.
  since: str  # For people: the wall clock decides nothing.
  stale_seconds: float  # A heartbeat that stands still for so long has ended.
  beat: int = 0

  def encode(self) -> bytes:
    """JSON, padded to RECORD_BYTES."""
    text = json.dumps(dataclasses.asdict(self))
    return text.encode().ljust(RECORD_BYTES - 1) + b"\n"

  def __str__(self) -> str:
    return f"process {self.pid} on host {self.host}, since {self.since}"


def this_process(stale_seconds: float) -> Owner:
  """An owner record for a new run of this process."""
  pid = os.getpid()
  return Owner(
    run=uuid.uuid4().hex, host=socket.gethostname()[:255], pid=pid, started=_start_of(pid),
    boot=_boot(), namespace=_namespace(),
    since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), stale_seconds=stale_seconds)


def decode(data: bytes) -> Owner | None:
  """The owner in a lease file; None if the bytes are not one."""
  try:
    values = json.loads(data)
    return Owner(**values) if _is_record(values) else None
  except (ValueError, TypeError, RecursionError):
    return None


def is_dead(owner: Owner) -> bool:
  """Whether the owner is a process of this host that has surely ended."""
  if not _is_visible(owner):
    return False
  if not files.process_runs(owner.pid):
    return True
  started = _start_of(owner.pid)
  if not owner.started or not started:  # The system hides it.
    return False
  return started != owner.started or _state_of(owner.pid) in _ENDED_STATES


def is_alive(owner: Owner) -> bool:
  """Whether the owner is a process of this host that surely runs, and is not stopped."""
  if not _is_visible(owner) or is_dead(owner):
    return False
  return _state_of(owner.pid) not in _STOPPED_STATES and not _is_ending(owner.pid)


def _is_record(values: Any) -> bool:
  if not isinstance(values, Mapping):
    return False
  for field in dataclasses.fields(Owner):
    kinds = (int, float) if field.type is float else field.type
    if not isinstance(values.get(field.name), kinds):
      return False
  return values["pid"] > 0 and values["stale_seconds"] > 0


def _is_visible(owner: Owner) -> bool:
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


def _stat_of(pid: int) -> list[str]:
  """The fields of /proc/<pid>/stat after the command's name, which may hold anything."""
  try:
    text = (_PROC / str(pid) / "stat").read_text(errors="replace")
  except OSError:
    return []
  return text.rpartition(")")[2].split()


def _state_of(pid: int) -> str:
  fields = _stat_of(pid)
  return fields[0] if fields else "?"


def _is_ending(pid: int) -> bool:
  """Whether a process was killed and only gives its memory and files back, which may take seconds.

  Its memory goes first, and its command line with it.
  """
  try:
    return not (_PROC / str(pid) / "cmdline").read_bytes()
  except OSError:
    return False


def _start_of(pid: int) -> str:
  fields = _stat_of(pid)
  return fields[19] if len(fields) > 19 else ""
