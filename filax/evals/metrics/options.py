# SPDX-License-Identifier: Apache-2.0
"""Options of a question: letters, texts, and the right option."""

from collections.abc import Sequence

from filax.evals.metrics import letter_patterns as patterns
from filax.evals.metrics.plain_text import normalised, plain

LETTERS = "ABCDEFGHIJ"


def named_option(text: str, options: Sequence[str]) -> str | None:
  """The letter of the option that a right answer names.

  The answer may give a letter, a text, or both. None if it is none of the options, or if letter and
  text disagree.
  """
  text = plain(text).strip()
  letters = LETTERS[: len(options)]
  alone = patterns.ONLY_LETTER.fullmatch(text)
  if alone is not None and alone["letter"].upper() in letters:
    return alone["letter"].upper()
  by_words = option_of_words(text, options)
  if by_words is not None:
    return by_words
  label = patterns.LOOSE_LABEL.match(text)
  if label is None or label["letter"].upper() not in letters:
    return None
  letter = label["letter"].upper()
  words = normalised(text[label.end() :])
  option = normalised(options[LETTERS.index(letter)])
  return letter if words == option else None


def unlettered(options: Sequence[str]) -> tuple[str, ...]:
  """Options without their own letters: ("B) a dog") -> ("a dog").

  Raises ValueError if every option has a letter and the letters are not A, B, C in order.
  """
  letters = [_label_letter(option) for option in options]
  in_order = []
  for number, letter in enumerate(letters):
    in_order.append(letter == LETTERS[number])
  if len(options) > 1 and all(letters) and not all(in_order):
    raise ValueError(f"has options with the letters {', '.join(letters)}, not in order from A")
  if sum(in_order) < 2 < len(options):
    in_order = [False] * len(options)  # A single match may be a name: "A. J. Smith".
  texts = []
  for option, has_label in zip(options, in_order, strict=True):
    texts.append(without_letter(option) if has_label else option.strip())
  return tuple(texts)


def _label_letter(option: str) -> str:
  """The letter that labels an option, "" without a label."""
  label = patterns.LABEL.match(plain(option))
  return "" if label is None else label["letter"].upper()


def without_letter(option: str) -> str:
  """ "B. a dog" or "(B) a dog" -> "a dog"."""
  text = plain(option)
  label = patterns.LABEL.match(text)
  return option.strip() if label is None else text[label.end() :].strip()


def option_of_words(text: str, options: Sequence[str]) -> str | None:
  """The option whose words make up the whole text.

  None for a text of a single letter.
  """
  label, words = _label_and_words(text)
  if len(words) < 2:
    return None
  texts = [_label_and_words(plain(option)) for option in options]
  if texts.count((label, words)) != 1:
    return None
  return LETTERS[texts.index((label, words))]


def _label_and_words(text: str) -> tuple[str, str]:
  """The label "A" or "", and the words.

  Otherwise the label A would be removed as an article.
  """
  label = patterns.LABEL.match(text)
  has_label = label is not None and label["letter"].upper() == "A"
  return "A" if has_label else "", normalised(text)
