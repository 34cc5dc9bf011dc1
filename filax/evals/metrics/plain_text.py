# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF001  (this file maps characters that look alike)
"""Normalises texts for comparison: plain Unicode letters and punctuation."""

import re
import string
import unicodedata

_WORDLESS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
ARTICLES = ("a", "an", "the")
_WHITE_A_IN_CIRCLE = 0x1F150  # The code points of white A to Z on black circles begin here,
_WHITE_A_IN_SQUARE = 0x1F170  # and those on black squares here. NFKC does not change them.
_NEGATIVE_LETTERS: dict[int, str] = {}
for _first in (_WHITE_A_IN_CIRCLE, _WHITE_A_IN_SQUARE):
  _NEGATIVE_LETTERS |= dict(enumerate(string.ascii_uppercase, _first))
_WIDE = {
  "．。": ".",
  "：": ":",
  "，、": ",",
  "；": ";",
  "！": "!",
  "？": "?",
  "）］】》〉」』": ")",
}
_COMMAS = "،؛﹑"
_SPACED: dict[int, str] = {}  # Wide marks have no space after them, so their narrow forms get one.
for _marks, _narrow in _WIDE.items():
  _SPACED |= dict.fromkeys(map(ord, _marks), f"{_narrow} ")
_BULLETS = "•·‧∙●▪‣¿¡・"
_DASHES = "—–―−"
_QUOTES = "‘’‚‛“”„‟′″「」『』«»‹›´"
_SINGLE_QUOTES = "‘’‚‛′´"


def normalised(text: str) -> str:
  """Text for comparison: lower case, without punctuation and articles.

  As in VQA's scoring of free answers (arXiv:1505.00468). Accents are kept, spaces are single.
  """
  text = unicodedata.normalize("NFKC", text).casefold()
  without_marks = ""
  for character in text:
    without_marks += " " if _is_punctuation(character) else character
  words = without_marks.split()
  without_articles = [word for word in words if word not in ARTICLES]
  return " ".join(without_articles or words)


def spaced(text: str) -> str:
  """The text with spaces around Chinese and Japanese characters.

  They are written without spaces, and count as words.
  """
  return _WORDLESS.sub(r" \g<0> ", text)


def plain(text: str) -> str:
  """The text with ASCII letters and punctuation for their Unicode variants.

  Full-width, circled and mathematical letters become ASCII letters. Brackets, quotes, dashes and
  stops of any script become `(`, `"`, ` - ` and `.`. Invisible characters are removed.
  """
  text = text.translate(_NEGATIVE_LETTERS).translate(_SPACED)
  text = unicodedata.normalize("NFKC", text)
  return "".join([_plain_character(character) for character in text])


def _is_punctuation(character: str) -> bool:
  return character in string.punctuation or unicodedata.category(character).startswith("P")


def _plain_character(character: str) -> str:
  if character.isascii():
    return character
  if character in _DASHES:
    return " - "
  if character in _SINGLE_QUOTES:
    return "'"
  if character in _QUOTES:
    return '"'
  if character in _COMMAS:
    return ","
  if character in _BULLETS:
    return " "
  return _by_category(character)


def _by_category(character: str) -> str:
  """The plain form of a character by its Unicode category."""
  category = unicodedata.category(character)
  if category in ("Cf", "Me") or "\ufe00" <= character <= "\ufe0f":
    return ""  # Joiners, enclosing circles, variation selectors.
  plain_forms = dict(Ps="(", Pe=")", Pi='"', Pf='"', Pd="-", Po=".", Zl="\n", Zp="\n")
  return plain_forms.get(category, character)
