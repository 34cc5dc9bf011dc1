# SPDX-License-Identifier: Apache-2.0
"""Short one-line excerpts of file content, for messages."""

import json
import re
from typing import Any

# Control characters, line separators and lone surrogates: they break lines or are unprintable.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def excerpt(value: Any, limit: int = 60) -> str:
  """A value as JSON, cut to `limit` characters."""
  if isinstance(value, str):
    value = value[:limit]  # Cut first, so that little of a long text is encoded.
  text = ""
  for piece in json.JSONEncoder(default=str).iterencode(value):
    text += piece
    if len(text) > limit:
      return text[: limit - 3] + "..."
  return text


def one_line(text: str, limit: int = 500) -> str:
  """A text without line breaks.

  A text over `limit` characters loses its middle.
  """
  if len(text) > limit:
    half = (limit - 5) // 2
    text = f"{text[:half]} ... {text[-half:]}"
  return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
  return match[0].encode("unicode_escape").decode()
