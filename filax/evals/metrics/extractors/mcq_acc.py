# SPDX-License-Identifier: Apache-2.0
"""The first separate letter after removal of punctuation.

The rule `mcq_acc` of MVBench in lmms-eval and VideoChat-Flash, and of MLVU and LVBench in the
latter.
"""

from collections.abc import Sequence
import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
MOST_STOPS = 32  # The published code passes re.UNICODE (32) where the number of removals belongs.
_LETTER_AND_STOP = re.compile(r"([A-E])\.", re.IGNORECASE)
_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_SEPARATE_LETTER = re.compile(r"\b[a-e]\b")


def mcq_letter(text: str, options: Sequence[str] = ()) -> str | None:
  """The letter of "B. text", else the first separate letter.

  Either case counts. An article counts as a letter: "I think a dog" -> A.
  """
  del options
  labelled = _labelling_letter(text.strip())
  if labelled is not None:
    return labelled
  text = text.replace("\n", " ").replace("\t", " ").strip()
  text = _without_punctuation(text)
  for mark in "'\")(":
    text = text.strip(mark)
  letter = _SEPARATE_LETTER.search(text.strip().lower())
  return None if letter is None else letter[0].upper()


def _labelling_letter(text: str) -> str | None:
  """The letter of "B. text", where the text is one line."""
  label = _LETTER_AND_STOP.match(text)
  if label is None:
    return None
  line = text[label.end() :].lstrip()
  if not line or "\n" in line:
    return None
  return label[1].upper()


def _without_punctuation(text: str) -> str:
  """The text without punctuation.

  Marks beside a space vanish; other marks become spaces. A number with a comma ("1,000") makes
  every mark vanish.
  """
  has_comma = _NUMBER_WITH_COMMA.search(text) is not None
  kept = text
  for mark in PUNCTUATION:
    beside_space = f"{mark} " in text or f" {mark}" in text
    kept = kept.replace(mark, "" if beside_space or has_comma else " ")
  return _STOP.sub("", kept, count=MOST_STOPS)
