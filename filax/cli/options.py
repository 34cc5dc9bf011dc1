# SPDX-License-Identifier: Apache-2.0
"""The parser of the commands, and the kinds of numbers it reads."""

import argparse
from collections.abc import Callable, Sequence
import difflib

from filax import files, setting_kinds

_LOCAL = ("out", "workdir")  # Options that name what a command writes.


class Parser(argparse.ArgumentParser):
  """The options of a command; raises ValueError for an invalid one."""

  _words: Sequence[str] = ()  # Those that are parsed.

  def parse_known_args(self, args=None, namespace=None):
    self._words = tuple(args or ())
    values, others = super().parse_known_args(args, namespace)
    for name in _LOCAL:
      path = getattr(values, name, None)
      if path and files.is_bucket(path):  # As a path, it would be a folder named "gs:".
        self.error(
          f"--{name} {path} is not on this machine, but the command writes to folders of this "
          f"machine alone: name one, and copy it afterwards"
        )
    return values, others

  def error(self, message: str):
    if "expected one argument" in message:
      message += "; a value that begins with a dash is written after =, as in --question=-5"
    elif "arguments are required" in message or "unrecognized arguments" in message:
      message += self._hint()
    end = "" if message.endswith("?") else "."
    raise ValueError(f"{message.rstrip('.')}{end} `{self.prog} --help` lists the options.")

  def _hint(self) -> str:
    """The option that an unknown one was probably meant to be.

    "" if none is like it.
    """
    for word in self._words:
      name = word.partition("=")[0]
      if name.startswith("--") and not any(known.startswith(name) for known in self._known()):
        for known in difflib.get_close_matches(name, self._known(), 1):
          return f"; {name} does not exist, did you mean {known}?"
    return ""

  def _known(self) -> list[str]:
    return [name for action in self._actions for name in action.option_strings]


class VerbParser(Parser):
  """The options of a verb below a command.

  An unknown option is an error here, which names the help of the verb.
  """

  def parse_known_args(self, args=None, namespace=None):
    values, others = super().parse_known_args(args, namespace)
    if others:
      self.error(f"unrecognized arguments: {' '.join(others)}")
    return values, others


class Single(argparse.Action):
  """An option that may be given once.

  argparse would take the last of several values without a word.
  """

  def __call__(self, parser, namespace, values, option_string=None):
    first = getattr(namespace, self.dest)
    if first != self.default:
      raise argparse.ArgumentError(
        self, f"takes one value, but was given {first!r} and {values!r}. Run the command for each"
      )
    setattr(namespace, self.dest, values)


def config_parser(verb: str, description: str, required: bool = True) -> Parser:
  """A parser with --config; `description` is printed as it is written."""
  parser = Parser(
    prog=f"filax {verb}",
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--config",
    required=required,
    help="a config file, with its arguments after a colon: F.py:debug",
  )
  return parser


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
  """An argparse type: a whole number from `low` to `high`."""
  return _number(int, setting_kinds.whole_number(low, high))


def number(low: float = 0.0, **limits) -> Callable[[str], float]:
  """An argparse type: a finite number; `limits` are those of setting_kinds.number."""
  return _number(float, setting_kinds.number(low, **limits))


def whole_numbers(low: int) -> Callable[[str], tuple[int, ...]]:
  """An argparse type: whole numbers of `low` or more, with commas."""
  parse_number = whole_number(low)

  def parse(text: str) -> tuple[int, ...]:
    return tuple(map(parse_number, text.split(",")))

  return parse


def add_held_out(parser: argparse.ArgumentParser) -> None:
  """Adds --held-out and --exclude-ids, of sets made from source videos."""
  add = parser.add_argument
  add(
    "--held-out",
    type=_share,
    default=0.02,
    metavar="SHARE",
    help="share of source videos [2%%]",
  )
  add("--exclude-ids", nargs="+", default=[], metavar="FILE", help="lists of videos to leave out")


def _share(text: str) -> float:
  """An argparse type: a share below 1, such as 2% or 0.02."""
  try:
    value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
  except ValueError:
    value = -1.0
  if not 0 <= value < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 2%.")
  return value


def _number(kind: type, setting: setting_kinds.Setting) -> Callable:
  """An argparse type: an int or float that fits `setting`."""

  def parse(text: str):
    try:
      value = kind(text)
    except ValueError:
      value = None
    if value is None or not setting.fits(value):
      raise argparse.ArgumentTypeError(f"{text!r} cannot be used. Set it to {setting.words}.")
    return value

  return parse
