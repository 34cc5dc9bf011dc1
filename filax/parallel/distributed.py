# SPDX-License-Identifier: Apache-2.0
"""Joins the processes of a run, on a pod or one machine.

A pod or a Slurm step is recognised automatically. Elsewhere launch/local.sh sets FILAX_COORDINATOR
(host:port), FILAX_PROCESSES and FILAX_PROCESS_ID; the next port is used as well.
FILAX_START_SECONDS bounds the wait (300).

A process that is alone on its Slurm node uses all GPUs of the node. Of several processes on a node
each uses one, as jax does by default; JAX_LOCAL_DEVICE_IDS chooses otherwise.
"""

from collections.abc import Iterator, Sequence
import contextlib
import os
import re
from typing import Any

import jax

from filax.parallel import ending, rendezvous

_PORT = 8474  # On a pod, besides the runtime's own ports.
_VISIBLE = ("jax_cuda_visible_devices", "jax_rocm_visible_devices")
_SLURM_STEP = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
_MISSING = re.compile(r"task:(\d+)")


def start() -> None:
  """Connects to the other processes, if there are any.

  Raises ConnectionError naming the processes that did not come within FILAX_START_SECONDS, or the
  port that is in use, and ValueError for an invalid environment variable.
  """
  arguments = _arguments()
  seconds = _environment_number("FILAX_START_SECONDS", "300", low=1)
  if arguments is None:
    return
  hosts = _pod_hosts()
  try:
    if meeting_point := _meeting_point(arguments, hosts):
      rendezvous.wait_for_all(*meeting_point, seconds)
  except rendezvous.Missing as missing:
    raise ConnectionError(_explain(missing.indices, hosts, seconds)) from missing
  if arguments.get("process_id") == 0:  # jax crashes if the port is in use.
    _, _, port = arguments["coordinator_address"].rpartition(":")
    rendezvous.check_free(int(port))
  try:
    with _devices_of_node():
      jax.distributed.initialize(**arguments, initialization_timeout=seconds)
  except RuntimeError as error:
    raise ConnectionError(_join_error(str(error), hosts, seconds)) from error
  ending.watch()


@contextlib.contextmanager
def _devices_of_node() -> Iterator[None]:
  """Keeps all GPUs visible to a process that is alone.

  In a Slurm job jax gives every process the GPU of its number on the node, also if it is the only
  process there.
  """
  before = {name: jax.config.values[name] for name in _VISIBLE}
  yield
  nodes = _environment_number("SLURM_STEP_NUM_NODES", "0", low=0)
  is_only_one = nodes == _environment_number("SLURM_NTASKS", "1", low=0)
  is_joined_by_filax = bool(os.environ.get("FILAX_COORDINATOR"))
  if (is_only_one or is_joined_by_filax) and not os.environ.get("JAX_LOCAL_DEVICE_IDS"):
    for name, devices in before.items():
      jax.config.update(name, devices)


def is_alone() -> bool:
  """Whether there is no other process to join.

  Raises ValueError like `start`.
  """
  return _arguments() is None


def _join_error(text: str, hosts: Sequence[str], seconds: int) -> str:
  """Translates an error of jax.distributed into words naming the knob.

  They contain "waited" only if jax waited in vain.
  """
  missing = sorted(set(map(int, _MISSING.findall(text))))
  if missing or "DEADLINE_EXCEEDED" in text or "timed out" in text.lower():
    return f"{_explain(missing, hosts, seconds)} {text[:300]}"
  return (
    f"This process could not join the others: {text[:300]} Set FILAX_COORDINATOR to a host and a "
    "free port that all can reach."
  )


def _arguments() -> dict[str, Any] | None:
  """Arguments of jax.distributed.initialize; {} where jax needs none; None for one process."""
  if coordinator := os.environ.get("FILAX_COORDINATOR"):
    return _coordinator_arguments(coordinator)
  pod = os.environ.get("TPU_WORKER_HOSTNAMES", "").count(",") > 0
  slices = _environment_number("MEGASCALE_NUM_SLICES", "1", low=0) > 1
  tasks = _environment_number("SLURM_NTASKS", "1", low=0)
  if tasks > 1 and not (pod or slices):
    _check_in_slurm_step(tasks)
  if pod or slices or tasks > 1:
    return {}
  return None


def _check_in_slurm_step(tasks: int) -> None:
  """Raises ValueError unless srun has started this process.

  The script of a job, and the shell of salloc, know the number of tasks, but are alone.
  """
  missing = [name for name in _SLURM_STEP if name not in os.environ]
  if missing:
    raise ValueError(
      f"SLURM_NTASKS={tasks}, but srun did not start this process ({missing[0]} is not set). Start "
      "it with srun, as launch/slurm.sh does, or unset SLURM_NTASKS to use this process alone."
    )


def _coordinator_arguments(coordinator: str) -> dict[str, Any]:
  """Arguments from FILAX_COORDINATOR, FILAX_PROCESSES and FILAX_PROCESS_ID."""
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit() or not 0 < int(port) < 65_535:
    raise ValueError(
      f"FILAX_COORDINATOR={coordinator!r} cannot be used. Set it to host:port, with a port from "
      "1 to 65534 (the one after it is used as well)."
    )
  if ":" in host and not (host.startswith("[") and host.endswith("]")):
    raise ValueError(
      f"FILAX_COORDINATOR={coordinator!r} cannot be used. Put an address of IPv6 in brackets: "
      f"[{host}]:{port}."
    )
  for name in ("FILAX_PROCESSES", "FILAX_PROCESS_ID"):
    if name not in os.environ:
      raise ValueError(f"FILAX_COORDINATOR is set, but {name} is not. Set it to a number.")
  processes = _environment_number("FILAX_PROCESSES", "", low=1)
  index = _environment_number("FILAX_PROCESS_ID", "", low=0)
  if index >= processes:
    raise ValueError(
      f"FILAX_PROCESS_ID={index} does not fit FILAX_PROCESSES={processes}. Set it to a number "
      f"from 0 to {processes - 1}."
    )
  return dict(coordinator_address=coordinator, num_processes=processes, process_id=index)


def _environment_number(name: str, default: str, low: int) -> int:
  """An environment variable as a number >= `low`.

  Raises ValueError.
  """
  text = os.environ.get(name, default)
  if not re.fullmatch("[0-9]{1,9}", text) or int(text) < low:
    raise ValueError(f"{name}={text!r} is not a number. Set it to a whole number of {low} or more.")
  return int(text)


def _pod_hosts() -> list[str]:
  """The hosts of a TPU pod, by worker; [] elsewhere."""
  names = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
  return list(filter(None, names))


def _meeting_point(
  arguments: dict[str, Any], hosts: Sequence[str]
) -> tuple[tuple[str, int], int, int] | None:
  """((host, port), number of processes, index of this one); None if unknown."""
  if address := arguments.get("coordinator_address"):
    host, _, port = address.rpartition(":")
    return (host, int(port) + 1), arguments["num_processes"], arguments["process_id"]
  worker = os.environ.get("TPU_WORKER_ID", "")
  if len(hosts) > 1 and worker.isdigit() and "MEGASCALE_NUM_SLICES" not in os.environ:
    return (hosts[0], _PORT), len(hosts), int(worker)
  return None


def _explain(missing: Sequence[int], hosts: Sequence[str], seconds: int) -> str:
  """A sentence that names the missing processes and their hosts."""
  who = "some process"
  if missing:
    who = f"process {', '.join(map(str, missing))}"
  names = [hosts[index] for index in missing if index < len(hosts)]
  if names:
    who += f" ({', '.join(names)})"
  return (
    f"Waited {seconds} s and {who} did not come. Look at the log of that host, or set "
    "FILAX_START_SECONDS."
  )
