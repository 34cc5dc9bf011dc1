# SPDX-License-Identifier: Apache-2.0
"""`filax serve` as a process of its own, at a free port."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys

from compile_flags import QUICK

ROOT = pathlib.Path(__file__).parents[2]


class ServeProcess:
  """A running server: its address, and everything that it prints."""

  def __init__(self, checkpoint: str, folder: pathlib.Path, *options: str, key: str = ""):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu", FILAX_API_KEY=key)
    environment["XLA_FLAGS"] = QUICK
    self.log = folder / "serve.log"
    command = [sys.executable, "-m", "filax", "serve", "--checkpoint", checkpoint]
    with open(self.log, "wb") as log:
      self.process = subprocess.Popen(
        [*command, "--port", "0", "--no-page", "--uploads", str(folder / "uploads"), *options],
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        cwd=folder,
        text=True,
      )
    assert self.process.stdout is not None
    self.line = self.process.stdout.readline()
    match = re.search(r"http://\S+:\d+", self.line)
    if match is None:
      self.process.wait(30)
      raise RuntimeError(f"The server did not start: {self.log.read_text()}")
    self.url = match[0]

  def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
    """Stops the server with a signal; returns its exit code."""
    if self.process.poll() is None:
      self.process.send_signal(number)
    try:
      return self.process.wait(seconds)
    finally:
      if self.process.poll() is None:
        self.process.kill()


@contextlib.contextmanager
def serving(checkpoint: str, folder: pathlib.Path, *options: str, key: str = ""):
  """A server for the length of a `with` block."""
  server = ServeProcess(checkpoint, folder, *options, key=key)
  try:
    yield server
  finally:
    server.stop()
