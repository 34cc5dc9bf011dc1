# SPDX-License-Identifier: Apache-2.0
"""The first character of the first word: LVBench's own rule (`polish_answer`)."""

from collections.abc import Sequence


def polished_letter(text: str, options: Sequence[str] = ()) -> str | None:
  """The first character of an answer, whatever it is: "**C**" -> "*".

  Of what stands before the first ")" and after the first "(".
  """
  del options
  before, _, _ = text.strip().partition(")")
  _, bracket, behind = before.partition("(")
  word, _, _ = (behind if bracket else before).partition(" ")
  return word[:1] or None
