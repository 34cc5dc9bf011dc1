# SPDX-License-Identifier: Apache-2.0
"""Holds the lease of a workdir for all processes of a run.

Process 0 takes the lease; the others wait for it.
"""

from collections.abc import Iterator
import contextlib

from etils import epath
import jax

from filax.checkpoint.lease import Held, Lease
from filax.checkpoint.store import say
from filax.parallel import key_value

_KEY = "filax/lease"
_TAKEN = "taken"


@contextlib.contextmanager
def hold_workdir(workdir: epath.PathLike) -> Iterator[Lease | None]:
  """Holds the workdir for all processes of this run.

  Yields the lease on process 0, None elsewhere. Raises lease.Held, on every process, if another run
  holds it.
  """
  if jax.process_count() == 1:
    with Lease(workdir, report=say) as lease:
      yield lease
  elif jax.process_index() == 0:
    with _tell_others(workdir) as lease:
      yield lease
  else:
    outcome = key_value.wait(_KEY, "process 0 to take the workdir")
    if outcome != _TAKEN:
      raise Held(outcome)
    yield None


@contextlib.contextmanager
def _tell_others(workdir: epath.PathLike) -> Iterator[Lease]:
  with contextlib.ExitStack() as stack:
    try:
      lease = stack.enter_context(Lease(workdir, report=say))
    except (OSError, ValueError) as error:
      key_value.put(_KEY, str(error))
      raise
    key_value.put(_KEY, _TAKEN)
    yield lease
