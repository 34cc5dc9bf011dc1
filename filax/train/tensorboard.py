# SPDX-License-Identifier: Apache-2.0
"""The writer of TensorBoard's files, imported without PyTorch."""

from collections.abc import Iterator, Mapping
import contextlib
import pathlib
import sys
import time
from typing import Any


class EventFile:
  """A file of events, each on disk when it is added.

  tensorboardX's own writer has a thread that ends at the first full disk; the run would then wait
  for ever for a place in its queue.
  """

  def __init__(self, folder: pathlib.Path):
    """Makes the file. Raises OSError."""
    # tensorboardX imports torch wherever it is installed, to accept its tensors. FiLax only passes
    # floats, and the import takes seconds at every start, so torch is hidden from it.
    with hidden_module("torch"):
      from tensorboardX import event_file_writer, summary
      from tensorboardX.proto import event_pb2
    folder.mkdir(parents=True, exist_ok=True)
    self._protocol = event_pb2
    self._make_scalar = summary.scalar
    self._writer = event_file_writer.EventsWriter(str(folder / "events"))
    self._writer.flush()

  def drop_steps_after(self, step: int) -> None:
    """Tells readers of the folder to drop earlier events of later steps."""
    log = self._protocol.SessionLog
    self._add(step + 1, session_log=log(status=log.START))

  def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Adds an event for each value. Raises OSError."""
    for name, value in values.items():
      self._add(step, summary=self._make_scalar(name, value))

  def close(self) -> None:
    """Closes the file."""
    self._writer.close()

  def _add(self, step: int, **content: Any) -> None:
    event = self._protocol.Event(wall_time=time.time(), step=step, **content)
    self._writer.write_event(event)
    self._writer.flush()


@contextlib.contextmanager
def hidden_module(name: str) -> Iterator[None]:
  """Makes `import name` fail within the block.

  A module that is imported already stays available. An entry None in sys.modules stands for a
  module that cannot be imported: Python's documented way to block an import.
  """
  if name in sys.modules:
    yield
    return
  sys.modules[name] = None  # type: ignore[assignment]  # typeshed leaves out the documented None.
  try:
    yield
  finally:
    del sys.modules[name]
