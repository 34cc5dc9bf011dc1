# SPDX-License-Identifier: Apache-2.0
"""How every command ends: a result, or one sentence on stderr and exit code 2."""

import argparse
from collections.abc import Callable, Sequence
import os
import sys

from filax import setting_kinds


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str], verb: str) -> int:
  """main(argv) -> exit code. User errors (ValueError, OSError) are printed without a traceback.

  FILAX_DEBUG=1 lets the traceback through.
  """
  try:
    return main(argv) or 0
  except (ValueError, OSError) as error:
    if os.environ.get("FILAX_DEBUG"):
      raise
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"filax {verb}: {text}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"filax {verb}: stopped.", file=sys.stderr)
    return 130


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
  """An argparse type: a whole number from `low` to `high`."""
  return _number(int, setting_kinds.whole(low, high))


def number(low: float = 0.0, **limits) -> Callable[[str], float]:
  """An argparse type: a finite number; `limits` are those of setting_kinds.number."""
  return _number(float, setting_kinds.number(low, **limits))


def wholes(low: int) -> Callable[[str], tuple[int, ...]]:
  """An argparse type: whole numbers of `low` or more, with commas between them."""
  read_one = whole(low)

  def read(text: str) -> tuple[int, ...]:
    return tuple(read_one(item) for item in text.split(","))

  return read


def _number(kind: type, setting: setting_kinds.Setting) -> Callable:
  def read(text: str):
    try:
      value = kind(text)
    except ValueError:
      value = None
    if value is None or not setting.fits(value):
      raise argparse.ArgumentTypeError(f"{text!r} cannot be used. Set it to {setting.words}.")
    return value

  return read
