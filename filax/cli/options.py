# SPDX-License-Identifier: Apache-2.0
"""Options of the commands: one parser, and the kinds of numbers it reads."""

import argparse
from collections.abc import Callable

from filax import setting_kinds


class Parser(argparse.ArgumentParser):
  """The options of a command; what does not fit is one sentence, as of any other user error."""

  def error(self, message: str):
    raise ValueError(f"{message.rstrip('.')}. `{self.prog} --help` lists the options.")


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
