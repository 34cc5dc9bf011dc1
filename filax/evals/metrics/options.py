# SPDX-License-Identifier: Apache-2.0
"""The options of a question: their letters, their texts, and which of them a right answer names."""

from collections.abc import Sequence

from filax.evals.metrics import letter_patterns as patterns
from filax.evals.metrics.plain_text import normalised, plain

LETTERS = "ABCDEFGH"


def named(text: str, options: Sequence[str]) -> str | None:
  """The option that a right answer names: by its letter, its text, or both.

  None if that is none of the options, or if letter and text are not of the same one.
  """
  text = plain(text).strip()
  known = LETTERS[: len(options)]
  alone = patterns.ONLY_LETTER.fullmatch(text)
  if alone is not None and alone["letter"].upper() in known:
    return alone["letter"].upper()
  same = same_words(text, options)
  label = patterns.LOOSE_LABEL.match(text)
  if same is not None or label is None or label["letter"].upper() not in known:
    return same
  letter = label["letter"].upper()
  words = normalised(text[label.end() :])
  return letter if words == normalised(options[LETTERS.index(letter)]) else None


def unlettered(options: Sequence[str]) -> tuple[str, ...]:
  """Options without their own letters: ("B) a dog") -> ("a dog").

  Raises ValueError if every option has a letter, and these are not A, B, C in order.
  """
  labels = [patterns.LABEL.match(plain(option)) for option in options]
  letters = [label["letter"].upper() if label else "" for label in labels]
  own = [letter == LETTERS[i] for i, letter in enumerate(letters)]
  if len(options) > 1 and all(letters) and not all(own):
    raise ValueError(f"has options with the letters {', '.join(letters)}, not in order from A")
  if sum(own) < 2 < len(options):
    return tuple([option.strip() for option in options])  # "A. J. Smith" is a name.
  return tuple([without_letter(o) if own[i] else o.strip() for i, o in enumerate(options)])


def without_letter(option: str) -> str:
  """ "B. a dog" or "(B) a dog" -> "a dog"."""
  label = patterns.LABEL.match(plain(option))
  return option.strip() if label is None else plain(option)[label.end() :].strip()


def same_words(text: str, options: Sequence[str]) -> str | None:
  """The option whose words are the whole text, unless the text is a single letter."""
  whole = _label_and_words(text)
  texts = [_label_and_words(plain(option)) for option in options]
  if len(whole[1]) < 2 or texts.count(whole) != 1:
    return None
  return LETTERS[texts.index(whole)]


def _label_and_words(text: str) -> tuple[str, str]:
  """("A" if that is a label, the words), as the label A would be lost with the articles."""
  label = patterns.LABEL.match(text)
  has_label = label is not None and label["letter"].upper() == "A"
  return "A" if has_label else "", normalised(text)
