# SPDX-License-Identifier: Apache-2.0
"""The steps of a run to read, newest first.

Hosts that share a folder by NFS may list it differently for a minute. So where several processes
read a checkpoint together, process 0 chooses the step for all of them.
"""

from collections.abc import Callable, Iterator, Sequence
import socket
import time

from etils import epath
import jax

from filax import files
from filax.checkpoint import record, run_folder, storage
from filax.parallel import agreement

SEEN_SECONDS = 90.0  # NFS shows a new file on other hosts after up to a minute.
_LOOK_SECONDS = 0.2


def steps_to_try(path: epath.PathLike) -> Iterator[epath.Path]:
  """Yields the newest untried step of `path`, until none is left.

  The steps are listed again each time, because an active run writes and removes steps meanwhile.
  """
  tried: set[epath.Path] = set()
  while True:
    untried = [step for step in newest_first(path) if step not in tried]
    if not untried:
      return
    tried.add(untried[0])
    yield untried[0]


def agreed_steps(path: epath.PathLike) -> Iterator[epath.Path]:
  """The `steps_to_try` of process 0, on all processes.

  All of them must ask for the next step equally often. Raises record.Unreadable on all of them if
  one does not see the step.
  """
  untried = steps_to_try(path)

  def next_name() -> str:
    step = next(untried, None)
    return "" if step is None else step.name

  while name := agreement.from_first(next_name):
    step = run_folder.step_folder(absolute_folder(path), name)
    _require_seen(step)
    yield step


def waits_until_seen(look: Callable[[], bool]) -> bool:
  """Waits until `look` is true; returns whether it is.

  It waits as long as the file of another host may be on its way.
  """
  deadline = time.monotonic() + SEEN_SECONDS
  while not look():
    if time.monotonic() > deadline:
      return False
    time.sleep(_LOOK_SECONDS)
  return True


def _require_seen(step: epath.Path) -> None:
  """Raises Unreadable on all processes unless all of them see a step."""
  error = ""
  if jax.process_count() > 1 and not waits_until_seen(step.exists):
    error = (
      f"process {jax.process_index()} ({socket.gethostname()}) does not see {step}, from which "
      "process 0 starts. Give all processes one folder that all hosts share, or a bucket."
    )
  for text in agreement.share_texts(error):
    if text:
      raise record.Unreadable(f"The checkpoint cannot be read: {text}")


def newest_first(path: epath.PathLike) -> Sequence[epath.Path]:
  """The step folders of `path`, newest first.

  path: a workdir, its checkpoints folder, or a step.
  """
  return run_folder.step_folders(absolute_folder(path))


def absolute_folder(path: epath.PathLike) -> epath.Path:
  """The absolute path, `~` expanded, which Orbax needs.

  Raises ValueError for a bucket whose package is missing and for a name that is not UTF-8, OSError
  for a bucket that does not answer.
  """
  storage.check_name(path)
  storage.check_scheme(path)
  storage.check_reachable(path)
  storage.forget_listings(path)
  return epath.Path(files.absolute(path))
