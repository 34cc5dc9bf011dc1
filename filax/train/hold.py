# SPDX-License-Identifier: Apache-2.0
"""Holds the lease of a workdir for all processes of a run.

Process 0 takes the lease; the others wait for it, and look whether they see it in their workdir.
"""

from collections.abc import Iterator
import contextlib
import json
import socket

from etils import epath
import jax

from filax.checkpoint import steps
from filax.checkpoint.lease import FILE_NAME, Held, Lease, holder_run
from filax.checkpoint.store import say
from filax.parallel import key_value

_KEY = "filax/lease"


class Unshared(OSError):
  """The processes of a run have different workdirs."""


@contextlib.contextmanager
def hold_workdir(workdir: epath.PathLike) -> Iterator[Lease | None]:
  """Holds the workdir for all processes of this run.

  Yields the lease on process 0, None elsewhere. Raises lease.Held, on every process, if another run
  holds it, and Unshared on a process whose workdir is not that of process 0.
  """
  if jax.process_count() == 1:
    with Lease(workdir, report=say) as lease:
      yield lease
  elif jax.process_index() == 0:
    with _tell_others(workdir) as lease:
      yield lease
  else:
    outcome = json.loads(key_value.wait(_KEY, "process 0 to take the workdir"))
    if outcome["refusal"]:
      raise Held(outcome["refusal"])
    _check_shared(workdir, outcome["run"])
    yield None


@contextlib.contextmanager
def _tell_others(workdir: epath.PathLike) -> Iterator[Lease]:
  with contextlib.ExitStack() as stack:
    try:
      lease = stack.enter_context(Lease(workdir, report=say))
    except (OSError, ValueError) as error:
      key_value.put(_KEY, json.dumps(dict(refusal=str(error))))
      raise
    key_value.put(_KEY, json.dumps(dict(refusal="", run=lease.run)))
    yield lease


def _check_shared(workdir: epath.PathLike, run: str) -> None:
  """Waits until this process sees the lease of `run`. Raises Unshared."""
  if not steps.waits_until_seen(lambda: holder_run(workdir) == run):
    raise Unshared(
      f"--workdir {workdir} of process {jax.process_index()} ({socket.gethostname()}) is not the "
      f"folder of process 0, whose {FILE_NAME} is not in it. Set --workdir to one folder that "
      "all hosts share, or to a bucket."
    )
