# SPDX-License-Identifier: Apache-2.0
"""Runs a script in several processes that join each other."""

import os
import pathlib
import subprocess
import sys

from free_ports import free_port

ROOT = pathlib.Path(__file__).parents[2]


def run(script: str, *arguments: str, processes: int = 2, seconds: float = 200):
  """(exit code, stdout, stderr) of every process of tests/parallel/<script>."""
  shared = dict(
    JAX_PLATFORMS="cpu",
    PYTHONPATH=str(ROOT),
    FILAX_COORDINATOR=f"127.0.0.1:{free_port()}",
    FILAX_PROCESSES=str(processes),
  )
  started = [
    subprocess.Popen(
      [sys.executable, pathlib.Path(__file__).parent / script, *arguments],
      cwd=ROOT,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env=os.environ | shared | dict(FILAX_PROCESS_ID=str(index)),
    )
    for index in range(processes)
  ]
  results = []
  for process in started:
    out, errors = process.communicate(timeout=seconds)  # JAX's barrier at exit would take 300 s.
    results.append((process.returncode, out, errors))
  return results
