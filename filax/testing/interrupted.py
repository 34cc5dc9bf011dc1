# SPDX-License-Identifier: Apache-2.0
"""Writers that are killed, folders that are read-only, and disks that are full."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]  # The folder from which FiLax is imported.
NOBODY = 65534  # A user id without rights.
HALF_WRITER = """\
import sys, time
from filax import files
with files.{call} as out:
  {write}
  print('half', flush=True)
  time.sleep(600)
"""


@contextlib.contextmanager
def half_writer(call: str, write: str) -> Iterator[subprocess.Popen]:
  """A process that waits in the middle of writing a file.

  It is inside `with files.<call> as out:` and has executed `write`.
  """
  code = HALF_WRITER.format(call=call, write=write)
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
  )
  assert process.stdout is not None
  try:
    assert process.stdout.readline() == "half\n"
    yield process
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def kill_writer(call: str, write: str) -> None:
  """Starts a `half_writer` and ends it by SIGKILL."""
  with half_writer(call, write) as process:
    process.send_signal(signal.SIGKILL)
    process.wait()


def ended_process_id() -> int:
  """The number of a process that has ended."""
  process = subprocess.Popen([sys.executable, "-S", "-c", ""])
  process.wait()
  return process.pid


@contextlib.contextmanager
def read_only_folder(folder: pathlib.Path) -> Iterator[None]:
  """Nothing can be written in `folder`.

  That does not hold for root, who becomes another user meanwhile. That user must be able to reach
  the folder, so it may not lie below pytest's own.
  """
  folder.chmod(0o555)
  is_root = os.geteuid() == 0
  if is_root:
    os.seteuid(NOBODY)
  try:
    yield
  finally:
    if is_root:
      os.seteuid(0)
    folder.chmod(0o755)


@contextlib.contextmanager
def full_disk(size_limit: int) -> Iterator[None]:
  """Limits every file to `size_limit` bytes.

  Writing more fails, as on a full disk.
  """
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size_limit, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
