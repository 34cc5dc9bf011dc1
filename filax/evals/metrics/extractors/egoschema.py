# SPDX-License-Identifier: Apache-2.0
"""The earliest letter: lmms-eval's rule of EgoSchema."""

from collections.abc import Sequence

from filax.evals.metrics.extractors.mmmu import option_positions, padded_text
from filax.evals.metrics.options import LETTERS

FORMS = ("({})", "{} ", "{}.")


def egoschema_letter(text: str, options: Sequence[str]) -> str | None:
  """The rule on EgoSchema's options, whose texts begin with their letters."""
  lettered = []
  for letter, option in zip(LETTERS, options, strict=False):
    lettered.append(f"{letter}. {option}")
  return earliest_letter(text, lettered)


def earliest_letter(text: str, texts: Sequence[str]) -> str | None:
  """The letter whose last occurrence is the earliest.

  As "(A)", "A " or "A."; else the option whose text stands first. None where the
  published code draws a letter.
  """
  text = padded_text(text)
  positions: dict[str, int] = {}
  for form in FORMS:
    for letter in LETTERS[: len(texts)]:
      position = text.rfind(form.format(letter))
      if position >= 0:
        positions[letter] = min(position, positions.get(letter, position))
  if not positions:
    positions = option_positions(text, texts)
  if not positions:
    return None
  return min(positions, key=positions.__getitem__)
