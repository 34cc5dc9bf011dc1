# SPDX-License-Identifier: Apache-2.0
"""The character before the first ")": MLVU's own rule."""

from collections.abc import Sequence


def letter_before_bracket(text: str, options: Sequence[str] = ()) -> str | None:
  """The character before the first ")", else the whole text.

  The text must be the letter itself: "A." is wrong.
  """
  del options
  before, bracket, _ = text.partition(")")
  answer = before[-1:] if bracket else text
  return answer or None
