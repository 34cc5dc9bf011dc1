# SPDX-License-Identifier: Apache-2.0
"""Texts of Ego4D in plain words: `#C C chops a tomato`."""

import re

_TAG = re.compile(r"#\s*(?:C|O|summary)\b\s*", re.IGNORECASE)
_UNSURE = re.compile(r"#\s*unsure", re.IGNORECASE)
_OTHER = re.compile(r"#\s*O\b", re.IGNORECASE)
_WEARER = re.compile(r"(?<![-\w])(?<!vitamin )C(?![-+#\w])")
_PERSON = re.compile(
  r"(?:(?:(?:the|an?)\s+)?(?:man|woman|lady|person|boy|girl)\s+[A-Z]\b|[B-Z](?=\s+[a-z]))",
  re.IGNORECASE,
)
WEARER = "the camera wearer"
OTHER_PERSON = "another person"


def is_unsure(text: str) -> bool:
  """Whether the annotator left a word open."""
  return _UNSURE.search(text) is not None


def plain_text(text: str) -> str:
  """A text without tags and without the letters of persons."""
  is_other = _OTHER.match(text.strip()) is not None
  plain = _TAG.sub("", text).strip()
  if is_other:
    match = _PERSON.match(plain)
    if match and (len(match[0]) > 1 or match[0].isupper()):
      plain = OTHER_PERSON + plain[match.end() :]
  return " ".join(_WEARER.sub(WEARER, plain).split())
