# SPDX-License-Identifier: Apache-2.0
"""Ties the loader's worker processes to their run.

Workers ignore the run's signals and end with it; a worker killed from outside raises an error.
"""

import multiprocessing
from multiprocessing import resource_tracker
import os
import re
import signal
import threading

_ENDED = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")
_QUIET = "ignore:resource_tracker:UserWarning"


class WorkerEnded(OSError):
  """A loader worker was killed from outside this run."""


def start_tracker() -> None:
  """Starts multiprocessing's resource tracker, which frees the memory of killed workers.

  The tracker's own warning is silenced.
  """
  before = os.environ.get("PYTHONWARNINGS")
  os.environ["PYTHONWARNINGS"] = f"{before},{_QUIET}" if before else _QUIET
  try:
    resource_tracker.ensure_running()
  finally:
    if before is None:
      del os.environ["PYTHONWARNINGS"]
    else:
      os.environ["PYTHONWARNINGS"] = before


def prepare(index: int, count: int) -> None:
  """Prepares a worker process.

  It ignores stop signals, which the run handles, and ends with the run.
  """
  del index, count
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def raise_if_ended(error: Exception) -> None:
  """Raises WorkerEnded if the loader's error says that a worker has ended."""
  match = _ENDED.search(str(error))
  if match is None:
    return
  code = int(match[1])
  reason = f"exit code {code}" if code >= 0 else _signal_name(-code)
  raise WorkerEnded(
    f"A loader worker was ended from outside ({reason}); out of memory is the usual reason. Lower "
    "config.data.workers, config.data.threads or config.data.prefetch, and start again."
  ) from error


def _signal_name(number: int) -> str:
  try:
    return signal.Signals(number).name
  except ValueError:
    return f"signal {number}"


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)  # After kill -9 of the run nothing else ends this process.
