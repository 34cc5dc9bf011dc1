# SPDX-License-Identifier: Apache-2.0
"""Joins the processes of a run: one a host on a pod, several on one machine for trying things.

A pod or a Slurm step is recognised by itself. Elsewhere launch/local.sh sets FILAX_COORDINATOR
(host:port), FILAX_PROCESSES and FILAX_PROCESS_ID; the port after that one is used as well.
FILAX_START_SECONDS bounds the wait (300).
"""

import os
import re

import jax

from filax.parallel import ending, meeting

_PORT = 8474  # On a pod, beside the runtime's own.
_MISSING = re.compile(r"task:(\d+)")


def start() -> None:
  """Connects to the other processes; nothing to do where there is only one.

  Raises ConnectionError naming the processes that did not come within FILAX_START_SECONDS.
  """
  arguments = _arguments()
  if arguments is None:
    return
  seconds = int(os.environ.get("FILAX_START_SECONDS", "300"))
  hosts = [name for name in os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",") if name]
  try:
    if meeting_point := _meeting(arguments, hosts):
      meeting.meet(*meeting_point, seconds)
  except meeting.Missing as missing:
    raise ConnectionError(_explain(missing.indices, hosts, seconds)) from missing
  try:
    jax.distributed.initialize(**arguments, initialization_timeout=seconds)
  except RuntimeError as error:
    said = str(error)
    missing = sorted({int(n) for n in _MISSING.findall(said)})
    raise ConnectionError(f"{_explain(missing, hosts, seconds)} {said[:300]}") from error
  ending.watch()


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


def _meeting(arguments: dict, hosts: list[str]) -> tuple[tuple[str, int], int, int] | None:
  """Where all wait for each other, how many they are, and who this is; None if nobody knows yet."""
  if address := arguments.get("coordinator_address"):
    host, _, port = address.rpartition(":")
    return (host, int(port) + 1), arguments["num_processes"], arguments["process_id"]
  worker = os.environ.get("TPU_WORKER_ID", "")
  if len(hosts) > 1 and worker.isdigit() and "MEGASCALE_NUM_SLICES" not in os.environ:
    return (hosts[0], _PORT), len(hosts), int(worker)
  return None


def _explain(missing: list[int], hosts: list[str], seconds: int) -> str:
  who = f"process {', '.join(map(str, missing))}" if missing else "some process"
  if names := [hosts[n] for n in missing if n < len(hosts)]:
    who += f" ({', '.join(names)})"
  return (
    f"Waited {seconds} s and {who} did not come. Look at the log of that host, or set "
    "FILAX_START_SECONDS.")
