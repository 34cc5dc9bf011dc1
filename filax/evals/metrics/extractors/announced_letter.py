# SPDX-License-Identifier: Apache-2.0
"""The letter after "Answer:": lmms-eval's rule of CinePile."""

from collections.abc import Sequence
import re

from filax.evals.metrics.options import LETTERS

_LONE = re.compile(r"[A-E]", re.IGNORECASE)
_ANNOUNCED = re.compile(r"Answer:\s*(?P<letter>[A-E])\)?\.?\s*(?P<words>.*)", re.IGNORECASE)


def announced_letter(text: str, options: Sequence[str]) -> str | None:
  """A lone letter, or the letter after "Answer:".

  Else that of the option whose words are the whole text. None if words behind the letter are not
  those of its option, which the published code counts as wrong. Stars are removed; case does not
  matter.
  """
  text = text.replace("*", "").strip()
  if _LONE.fullmatch(text):
    return text.upper()
  words = [option.lower() for option in options]
  announced = _ANNOUNCED.search(text)
  if announced is None:
    return LETTERS[words.index(text.lower())] if text.lower() in words else None
  letter = announced["letter"].upper()
  stated = announced["words"].strip().lower()
  agrees = stated in ("", *words[LETTERS.index(letter) :][:1])
  return letter if agrees else None
