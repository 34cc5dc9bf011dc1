# SPDX-License-Identifier: Apache-2.0
"""The writer of TensorBoard's files, imported without PyTorch."""

from collections.abc import Iterator
import contextlib
import pathlib
import sys
from typing import Any


def open_writer(folder: pathlib.Path, first: int) -> Any:
  """A tensorboardX.SummaryWriter into `folder`.

  Events of steps after `first` are dropped from the folder.

  tensorboardX imports torch wherever it is installed, to accept its tensors. FiLax only passes
  floats, and the import takes seconds at every start, so torch is hidden from it.
  """
  with hidden_module("torch"):
    from tensorboardX import SummaryWriter
  return SummaryWriter(
    str(folder),
    purge_step=first + 1,
    flush_secs=1,  # By default 120: by then the workdir may be another run's.
  )


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
