# SPDX-License-Identifier: Apache-2.0
"""Text of others, such as a model's, on a terminal."""

from collections.abc import Iterable, Iterator
import itertools
import sys
import unicodedata

_KEPT = "\n\t"


def printable(text: str) -> str:
  """`without_controls`, if standard output is a terminal.

  A file or a pipe gets the text as it is.
  """
  if sys.stdout is None or not sys.stdout.isatty():
    return text
  return without_controls(text)


def without_controls(text: str) -> str:
  """The text with control characters as escapes ("\\x1b").

  A terminal obeys them: it would move its cursor, change its title or the clipboard, or clear
  itself.
  """
  letters = []
  for letter in text:
    is_control = unicodedata.category(letter) == "Cc" and letter not in _KEPT
    letters.append(f"\\x{ord(letter):02x}" if is_control else letter)
  return "".join(letters)


def with_start_joined(pieces: Iterable[str]) -> Iterator[str]:
  """The pieces of an answer, with the first two as one.

  The program of the second is compiled when it is asked for, and a line on stderr says so, which
  would stand in the middle of the answer.
  """
  rest = iter(pieces)
  yield "".join(itertools.islice(rest, 2))
  yield from rest
