# SPDX-License-Identifier: Apache-2.0
"""Joins the processes of a run: one a host on a pod, several on one machine for trying things.

A pod or a Slurm step is recognised by itself. Elsewhere launch/local.sh sets FILAX_COORDINATOR
(host:port), FILAX_PROCESSES and FILAX_PROCESS_ID. FILAX_START_SECONDS bounds the wait (300).
"""

import os
import re

import jax

_MISSING = re.compile(r"task:(\d+)")


def start() -> None:
  """Connects to the other processes; nothing to do where there is only one.

  Raises ConnectionError naming the processes that did not come within FILAX_START_SECONDS.
  """
  arguments = _arguments()
  if arguments is None:
    return
  seconds = int(os.environ.get("FILAX_START_SECONDS", "300"))
  try:
    jax.distributed.initialize(**arguments, initialization_timeout=seconds)
  except RuntimeError as error:
    raise ConnectionError(_explain(str(error), arguments, seconds)) from error


def _arguments() -> dict | None:
  """What jax.distributed.initialize needs; {} where jax finds out by itself; None if alone."""
  if coordinator := os.environ.get("FILAX_COORDINATOR"):
    names = ("FILAX_PROCESSES", "FILAX_PROCESS_ID")
    if absent := [name for name in names if not os.environ.get(name, "").isdigit()]:
      raise ValueError(f"FILAX_COORDINATOR is set, but {absent[0]} is not a number.")
    processes, index = (int(os.environ[name]) for name in names)
    return dict(
      coordinator_address=coordinator, num_processes=processes, process_id=index)
  pod = len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
  slices = int(os.environ.get("MEGASCALE_NUM_SLICES", "1")) > 1
  slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1
  return {} if pod or slices or slurm else None


def _explain(text: str, arguments: dict, seconds: int) -> str:
  missing = sorted({int(n) for n in _MISSING.findall(text)})
  who = f"process {', '.join(map(str, missing))}" if missing else "some process"
  where = arguments.get("coordinator_address", "the coordinator of this pod")
  hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
  if names := [hosts[n] for n in missing if n < len(hosts) and hosts[n]]:
    who += f" ({', '.join(names)})"
  return (
    f"Waited {seconds} s at {where} and {who} did not come. "
    f"Look at the log of that host, or set FILAX_START_SECONDS. The runtime says: {text[:300]}")
