# SPDX-License-Identifier: Apache-2.0
"""Standard streams that a command was started without."""

import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # In the order of their numbers.


def open_closed_streams() -> None:
  """Opens the standard streams that are closed: nothing is read or shown.

  Otherwise the next opened file would get the number of a closed stream, such as 2, and messages
  of C++ libraries would be written into it.
  """
  for number, (name, mode) in enumerate(_STREAMS):
    try:
      os.fstat(number)
    except OSError:
      nowhere = os.open(os.devnull, os.O_RDWR)
      os.dup2(nowhere, number)
      if nowhere != number:
        os.close(nowhere)
      os.set_inheritable(number, True)
      setattr(sys, name, open(number, mode, closefd=False))
