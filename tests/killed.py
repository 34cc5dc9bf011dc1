# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed or run out of disk in the middle of a write."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
WRITING = "import sys, time\nfrom filax import files\nwith files.{call} as {name}:\n  {write}\n"
WAITING = "  print('half', flush=True)\n  time.sleep(600)\n"


@contextlib.contextmanager
def writing(call: str, write: str) -> Iterator[subprocess.Popen]:
  """A process inside `with files.<call> as out:` that has done `write` and waits."""
  code = WRITING.format(call=call, name="out", write=write) + WAITING
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
  )
  try:
    assert process.stdout.readline() == "half\n"
    yield process
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def killed_writer(call: str, write: str) -> None:
  """`writing`, ended by SIGKILL."""
  with writing(call, write) as process:
    process.send_signal(signal.SIGKILL)
    process.wait()


def dead_pid() -> int:
  """The number of a process that has ended."""
  process = subprocess.Popen([sys.executable, "-S", "-c", ""])
  process.wait()
  return process.pid


@contextlib.contextmanager
def read_only(folder: pathlib.Path) -> Iterator[None]:
  """Nothing can be written in `folder`: root, for whom that does not hold, becomes another user.

  That user must be able to reach the folder, so it may not lie below pytest's own.
  """
  folder.chmod(0o555)
  root = os.geteuid() == 0
  if root:
    os.seteuid(65534)
  try:
    yield
  finally:
    if root:
      os.seteuid(0)
    folder.chmod(0o755)


@contextlib.contextmanager
def full_disk(most: int) -> Iterator[None]:
  """No file grows beyond `most` bytes: writing more fails, as on a full disk."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
