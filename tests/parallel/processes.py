# SPDX-License-Identifier: Apache-2.0
"""Runs a script in several processes that join each other."""

import os
import pathlib
import subprocess
import sys

from free_ports import free_port

ROOT = pathlib.Path(__file__).parents[2]


def joined_by_filax(index: int, port: int, processes: int) -> dict[str, str]:
  """The environment that launch/local.sh gives to a process."""
  return dict(
    FILAX_COORDINATOR=f"127.0.0.1:{port}",
    FILAX_PROCESSES=str(processes),
    FILAX_PROCESS_ID=str(index),
  )


def joined_by_slurm(index: int, port: int, processes: int) -> dict[str, str]:
  """The environment of a Slurm step with one process a node."""
  return dict(
    SLURM_JOB_ID="7",
    SLURM_STEP_NODELIST="localhost",
    SLURM_STEP_NUM_NODES=str(processes),
    SLURM_NTASKS=str(processes),
    SLURM_PROCID=str(index),
    SLURM_LOCALID="0",
    JAX_COORDINATOR_PORT=str(port),
  )


def run(
  script: str, *arguments: str, processes: int = 2, seconds: float = 200, joined=joined_by_filax
):
  """(exit code, stdout, stderr) of every process of tests/parallel/<script>."""
  shared = dict(JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT))
  port = free_port()
  started = [
    subprocess.Popen(
      [sys.executable, pathlib.Path(__file__).parent / script, *arguments],
      cwd=ROOT,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env=os.environ | shared | joined(index, port, processes),
    )
    for index in range(processes)
  ]
  results = []
  for process in started:
    out, errors = process.communicate(timeout=seconds)  # JAX's barrier at exit would take 300 s.
    results.append((process.returncode, out, errors))
  return results
