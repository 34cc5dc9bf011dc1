# SPDX-License-Identifier: Apache-2.0
"""How the options of a question are written, for training and evaluation alike."""

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"
REQUEST = "\nAnswer with the option's letter from the given choices directly."


def choice_lines(options: Sequence[str]) -> str:
  """The lettered options and the request for a letter."""
  return option_lines(options) + REQUEST


def option_lines(options: Sequence[str]) -> str:
  """The lettered options, each on a line of its own."""
  lines = []
  for number, option in enumerate(options):
    lines.append(f"\n{LETTERS[number]}. {option}")
  return "".join(lines)
