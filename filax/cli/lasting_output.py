# SPDX-License-Identifier: Apache-2.0
"""Output of a command that goes on when nobody reads it any more.

A training of days must not end because the terminal was closed, or `tee` was killed.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import sys
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)  # A pipe or a terminal without reader.


class LastingOutput:
  """A stream whose failures to write are ignored."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str) -> int:
    """Writes `text`, if that is possible."""
    try:
      return self._stream.write(text)
    except OSError as error:
      self._note(error)
      return len(text)

  def flush(self) -> None:
    """Flushes, if that is possible."""
    try:
      self._stream.flush()
    except OSError as error:
      self._note(error)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def _note(self, error: OSError) -> None:
    """Silences a stream without a reader; a full disk may get room."""
    if error.errno not in _GONE:
      return
    with contextlib.suppress(OSError, ValueError):
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, self._stream.fileno())
      os.close(nowhere)
    if self._stream is sys.__stdout__:
      print("Nobody reads this output any more; the work goes on.", file=sys.stderr, flush=True)


@contextlib.contextmanager
def lasting_outputs() -> Iterator[None]:
  """Makes stdout and stderr lasting within the block."""
  with contextlib.ExitStack() as stack:
    if sys.stderr is not None:
      stack.enter_context(contextlib.redirect_stderr(LastingOutput(sys.stderr)))
    if sys.stdout is not None:
      stack.enter_context(contextlib.redirect_stdout(LastingOutput(sys.stdout)))
    yield
