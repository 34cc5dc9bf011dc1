# SPDX-License-Identifier: Apache-2.0
"""The process `filax evals worker`, which answers lines of JSON (README.md of filax/evals)."""

import collections
from collections.abc import Iterator, Sequence
import json
import os
import shutil
import subprocess
import sys
import threading
from typing import Any

KNOB = "FILAX_PYTHON"
SCHEMA = 1  # The version of requests and answers that is spoken here.
TAIL_LINES = 20  # Lines of stderr that an error shows.
END_SECONDS = 20.0  # Time that the process gets to end by itself.


class WorkerFailed(RuntimeError):
  """The worker ended, or cannot start; the message shows the end of its stderr."""


class FilaxWorker:
  """A running worker; `close` ends it."""

  def __init__(self, options: Sequence[str], python: str = ""):
    """Starts a worker and waits for its model.

    options: those of `filax evals worker`. python: FiLax's; default: $FILAX_PYTHON.
    """
    command = [find_python(python), "-m", "filax", "evals", "worker", *options]
    self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    self._process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      encoding="utf-8",
      errors="replace",
    )
    self._copier = threading.Thread(target=self._copy_stderr, daemon=True)
    self._copier.start()
    self.description = self._read_line()
    schema = self.description.get("schema")
    if schema != SCHEMA:
      self.close()
      raise WorkerFailed(
        f"The worker speaks version {schema} of requests, and this package version {SCHEMA}. "
        f"Install the filax_lmms_eval that belongs to the FiLax of {command[0]}."
      )

  def replies(self, requests: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The replies to requests, in any order.

    Raises WorkerFailed if the worker ends before all are answered.
    """
    assert self._process.stdin is not None
    try:
      self._process.stdin.write(json.dumps({"requests": list(requests)}) + "\n")
      self._process.stdin.flush()
    except OSError:
      raise self._failure() from None
    for _ in requests:
      yield self._read_line()

  def close(self) -> None:
    """Ends the worker."""
    assert self._process.stdin is not None
    try:
      self._process.stdin.close()
    except OSError:
      pass  # It has ended already.
    try:
      self._process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def _read_line(self) -> dict[str, Any]:
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise self._failure()
    return json.loads(line)

  def _failure(self) -> WorkerFailed:
    """The error of a worker that has ended."""
    self.close()
    self._copier.join(END_SECONDS)
    tail = "".join(f"\n  {line}" for line in self._tail) or " nothing."
    return WorkerFailed(
      f"The FiLax worker ended with code {self._process.returncode}. Its last words:{tail}"
    )

  def _copy_stderr(self) -> None:
    """Passes the worker's stderr on, and remembers its end."""
    assert self._process.stderr is not None
    for line in self._process.stderr:
      self._tail.append(line.rstrip())
      sys.stderr.write(line)


def find_python(python: str = "") -> str:
  """The Python of FiLax's environment: `python`, else $FILAX_PYTHON.

  Raises WorkerFailed if there is none.
  """
  name = python or os.environ.get(KNOB, "")
  if not name:
    raise WorkerFailed(
      f"Set {KNOB} to the Python of the environment that FiLax is installed in, such as "
      f"/home/me/filax/.venv/bin/python, or give --model_args python=..."
    )
  path = shutil.which(os.path.expanduser(name))
  if path is None:
    raise WorkerFailed(
      f"{KNOB}={name} is not a program. Set it to the Python of FiLax's environment."
    )
  return path
