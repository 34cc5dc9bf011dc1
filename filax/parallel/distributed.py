# SPDX-License-Identifier: Apache-2.0
"""Joins the processes of a run: one a host on a pod, several on one machine for trying things.

A pod or a Slurm step is recognised by itself. Elsewhere launch/local.sh sets FILAX_COORDINATOR
(host:port), FILAX_PROCESSES and FILAX_PROCESS_ID; the port after that one is used as well.
FILAX_START_SECONDS bounds the wait (300).
"""

import os
import re

import jax

from filax.parallel import ending, rendezvous

_PORT = 8474  # On a pod, beside the runtime's own.
_MISSING = re.compile(r"task:(\d+)")


def start() -> None:
  """Connects to the other processes; nothing to do where there is only one.

  Raises ConnectionError naming the processes that did not come within FILAX_START_SECONDS, or the
  port that is in use, and ValueError for an environment variable that cannot be.
  """
  arguments = _arguments()
  seconds = _whole("FILAX_START_SECONDS", "300", low=1)
  if arguments is None:
    return
  hosts = [name for name in os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",") if name]
  try:
    if meeting_point := _meeting(arguments, hosts):
      rendezvous.meet(*meeting_point, seconds)
  except rendezvous.Missing as missing:
    raise ConnectionError(_explain(missing.indices, hosts, seconds)) from missing
  if arguments.get("process_id") == 0:  # jax does not survive a port that is taken.
    rendezvous.check_free(int(arguments["coordinator_address"].rpartition(":")[2]))
  try:
    jax.distributed.initialize(**arguments, initialization_timeout=seconds)
  except RuntimeError as error:
    raise ConnectionError(_told(str(error), hosts, seconds)) from error
  ending.watch()


def is_alone() -> bool:
  """Whether this process has no others to join. Raises ValueError as `start` does."""
  return _arguments() is None


def _told(text: str, hosts: list[str], seconds: int) -> str:
  """An error of jax.distributed in our words: it waited in vain only if it says so."""
  missing = sorted({int(number) for number in _MISSING.findall(text)})
  if missing or "DEADLINE_EXCEEDED" in text or "timed out" in text.lower():
    return f"{_explain(missing, hosts, seconds)} {text[:300]}"
  return (
    f"This process could not join the others: {text[:300]} Set FILAX_COORDINATOR to a host and a "
    "free port that all can reach."
  )


def _arguments() -> dict | None:
  """What jax.distributed.initialize needs; {} where jax finds out by itself; None if alone."""
  if coordinator := os.environ.get("FILAX_COORDINATOR"):
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_535:
      raise ValueError(
        f"FILAX_COORDINATOR={coordinator!r} cannot be used. Set it to host:port, with a port from "
        "1 to 65534 (the one after it is used as well)."
      )
    for name in ("FILAX_PROCESSES", "FILAX_PROCESS_ID"):
      if name not in os.environ:
        raise ValueError(f"FILAX_COORDINATOR is set, but {name} is not a number. Set it.")
    processes = _whole("FILAX_PROCESSES", "", low=1)
    index = _whole("FILAX_PROCESS_ID", "", low=0)
    if index >= processes:
      raise ValueError(
        f"FILAX_PROCESS_ID={index} is none of FILAX_PROCESSES={processes}. Set it to 0 to "
        f"{processes - 1}."
      )
    return dict(coordinator_address=coordinator, num_processes=processes, process_id=index)
  pod = len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
  slices = _whole("MEGASCALE_NUM_SLICES", "1", low=0) > 1
  slurm = _whole("SLURM_NTASKS", "1", low=0) > 1
  return {} if pod or slices or slurm else None


def _whole(name: str, default: str, low: int) -> int:
  """An environment variable as a whole number of `low` or more. Raises ValueError."""
  text = os.environ.get(name, default)
  if not re.fullmatch("[0-9]{1,9}", text) or int(text) < low:
    raise ValueError(f"{name}={text!r} is not a number. Set it to a whole number of {low} or more.")
  return int(text)


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
    "FILAX_START_SECONDS."
  )
