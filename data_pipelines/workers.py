# SPDX-License-Identifier: Apache-2.0
"""Ties the loader's worker processes to their run.

Workers ignore the run's signals and end with it; a worker killed from outside raises an error.
"""

import errno
import multiprocessing
from multiprocessing import resource_tracker
import os
import re
import shutil
import signal
import threading
import traceback

_ENDED = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")
_SHARED_MEMORY = "/dev/shm"
_USERS = tuple(f"multiprocessing/{name}.py" for name in ("heap", "synchronize", "shared_memory"))
_QUIET = "ignore:resource_tracker:UserWarning"


class WorkerEnded(OSError):
  """A loader worker was killed from outside this run."""


class NoSharedMemory(OSError):
  """The memory through which workers pass their rows has no room."""


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
  if code == -signal.SIGBUS:  # The kernel finds no page for a part of the memory.
    raise NoSharedMemory(_shared_memory_sentence()) from error
  if code >= 0:
    raise WorkerEnded(
      f"A loader worker ended with exit code {code}; its own error stands above. Each worker runs "
      'the main script again: put what it does under if __name__ == "__main__", in a file of its '
      "own, or set config.data.workers=0."
    ) from error
  raise WorkerEnded(
    f"A loader worker was ended from outside ({_signal_name(-code)}); out of memory is the usual "
    "reason. Lower config.data.workers, config.data.threads or config.data.prefetch, and start "
    "again."
  ) from error


def raise_if_no_shared_memory(error: OSError) -> None:
  """Raises NoSharedMemory for the error of a full /dev/shm."""
  if error.errno in (errno.EMFILE, errno.ENFILE):
    return  # There is memory, but no number is left for another open file.
  frames = traceback.extract_tb(error.__traceback__)
  if frames and frames[-1].filename.endswith(_USERS):
    raise NoSharedMemory(_shared_memory_sentence()) from error


def _shared_memory_sentence() -> str:
  try:
    size = f"{shutil.disk_usage(_SHARED_MEMORY).total / 1e6:.0f} MB"
  except OSError:
    size = "missing"
  return (
    f"The shared memory of this machine ({_SHARED_MEMORY}: {size}) has no room for the rows of the "
    "loader's workers. Enlarge it (docker run --shm-size=16g; on Kubernetes, an emptyDir of medium "
    f"Memory at {_SHARED_MEMORY}), or set config.data.workers=0."
  )


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
