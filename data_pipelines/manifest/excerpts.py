# SPDX-License-Identifier: Apache-2.0
"""Values of a file as messages show them: on one line, and never long."""

import json
import re
from typing import Any

# Control characters, line separators and lone surrogates: they break a list, or cannot be printed.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(value: Any, most: int = 60) -> str:
  """A value as JSON, cut to `most` characters. However deep or long it is, little is written."""
  text = ""
  for piece in json.JSONEncoder(default=str).iterencode(_cut(value, most)):
    text += piece
    if len(text) > most:
      return text[: most - 3] + "..."
  return text


def _cut(value: Any, most: int) -> Any:
  """A text is cut before it is written, so that a long one is not written whole."""
  return value[:most] if isinstance(value, str) else value


def one_line(text: str, most: int = 500) -> str:
  """A text without line breaks; the middle of one of more than `most` characters is left out."""
  if len(text) > most:
    half = (most - 5) // 2
    text = f"{text[:half]} ... {text[-half:]}"
  return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
  return match[0].encode("unicode_escape").decode()
