# SPDX-License-Identifier: Apache-2.0
"""Facts about processes of this host, such as which ones run."""

import os
import pathlib
import re
import socket
import sys

_LETTERS = {"stopped": "T", "zombie": "Z", "dead": "X"}  # States of psutil -> those of Linux.


def host() -> str:
  """The name of this host and of its space of process numbers.

  Hosts may share a name, but not the id of their last start; containers have numbers of their own.
  """
  try:
    start = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    numbers = os.readlink("/proc/self/ns/pid")
  except OSError:
    start = numbers = ""
  return re.sub(r"[^A-Za-z0-9-]", "", f"{socket.gethostname()}-{start}-{numbers}")


def process_runs(pid: int, start: int = 0) -> bool:
  """Whether a process of this number runs on this host.

  start: its `process_start`, if known; a later process of the same number is a different one.
  """
  if pid < 1:
    return False
  try:
    os.kill(pid, 0)
  except (ProcessLookupError, OverflowError):
    return False
  except PermissionError:
    pass  # It runs, as another user.
  facts = _process_facts(pid)
  if facts is None:
    return True
  state, began = facts
  return state not in ("Z", "X") and start in (0, began)


def process_start(pid: int) -> int:
  """Start of a process in clock ticks after boot; 0 if unknown."""
  facts = _process_facts(pid)
  return facts[1] if facts else 0


def process_state(pid: int) -> str:
  """The letter of a process's state, such as R; "" if unknown."""
  facts = _process_facts(pid)
  return facts[0] if facts else ""


def is_ending(pid: int) -> bool:
  """Whether a process was killed and is still giving back its memory.

  That may take seconds. Its memory goes first, and its command line with it.
  """
  try:
    return not pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
  except OSError:
    return False


def peak_memory() -> int:
  """The most bytes of memory that this process has used.

  On Linux, getrusage would also count what the process had used that started this one.
  """
  try:
    status = pathlib.Path("/proc/self/status").read_text(errors="replace")
  except OSError:
    status = ""
  if most := re.search(r"^VmHWM:\s+([0-9]+) kB", status, re.MULTILINE):
    return int(most[1]) * 1024
  import resource  # Here: Windows has none.

  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _process_facts(pid: int) -> tuple[str, int] | None:
  """(state, start) of a process, or None if unknown.

  State Z: ended, but not awaited.
  """
  try:
    text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
  except OSError:
    return _portable_facts(pid)
  fields = text.rpartition(")")[2].split()  # The process name may contain spaces and brackets.
  return fields[0], int(fields[19])


def _portable_facts(pid: int) -> tuple[str, int] | None:
  """What `_process_facts` returns where there is no /proc, as on macOS."""
  import psutil  # Here: Linux, where it would only make commands start later, does not need it.

  try:
    process = psutil.Process(pid)
    return _LETTERS.get(process.status(), "R"), round(process.create_time() * 100)
  except psutil.Error:
    return None
