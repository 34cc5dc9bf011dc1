# SPDX-License-Identifier: Apache-2.0
"""A bucket of Google Cloud Storage on this machine: an emulator, and what points programs at it."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

from free_ports import free_port

ROOT = pathlib.Path(__file__).parents[2]
EMULATOR = pathlib.Path(__file__).with_name("emulator.py")


@contextlib.contextmanager
def emulator():
  """Yields the environment of programs that shall see the bucket gs://tests, empty at first."""
  port = free_port()
  url = f"http://127.0.0.1:{port}"
  process = subprocess.Popen(
    [
      sys.executable,
      str(EMULATOR),
      "start",
      "--host",
      "127.0.0.1",
      "--port",
      str(port),
      "--default-bucket",
      "tests",
      "--in-memory",
      "--quiet",
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    _await(f"{url}/storage/v1/b/tests", process)
    yield os.environ | dict(  # gcsfs reads the first, TensorStore the second.
      STORAGE_EMULATOR_HOST=url,
      TENSORSTORE_GCS_HTTP_URL=url,
      TENSORSTORE_GCS_REQUEST_CONCURRENCY="4",
      JAX_PLATFORMS="cpu",
      PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    )
  finally:
    process.terminate()
    process.wait()


def _await(url: str, process: subprocess.Popen) -> None:
  for _ in range(600):
    assert process.poll() is None, "The emulator does not start."
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
      return
    time.sleep(0.05)
  raise AssertionError("The emulator does not answer.")
