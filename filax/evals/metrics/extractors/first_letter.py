# SPDX-License-Identifier: Apache-2.0
"""The first capital letter of a text.

The rule of Video-MME's authors and of VideoChat-Flash; of lmms-eval until 2026-04-11.
"""

from collections.abc import Sequence

# The last two are two phrases each that the published code joins by accident (a missing comma).
PREFIXES = (
  "The best answer is",
  "The correct answer is",
  "The answer is",
  "The answer",
  "The best option isThe correct option is",
  "Best answer:Best option:",
)


def first_letter(text: str, options: Sequence[str] = (), letters: str = "ABCD") -> str | None:
  """The first of `letters` in the text, also within a word.

  "BANANA" -> B. Announcing phrases are removed first: "The answer is C" -> C, "Answer: B" -> A.
  """
  del options
  return letter_after_prefixes(text, PREFIXES, letters)


def letter_after_prefixes(text: str, prefixes: Sequence[str], letters: str) -> str | None:
  """The first letter of a text from which every prefix is removed."""
  text = text.strip()
  for prefix in prefixes:
    text = text.replace(prefix, "")
  for character in text:
    if character in letters:
      return character
  return None
