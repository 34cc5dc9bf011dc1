# SPDX-License-Identifier: Apache-2.0
"""What a page may show of an answer.

A benchmark whose licence forbids it (`shows_text` False) shows ids, letters and verdicts: no
question, no right answer, no generated text, no columns of the annotation, no path of a video.
"""

from collections.abc import Mapping
import os
import re
from typing import Any

from filax.evals.html_page import printable

MOST_CHARACTERS = 600  # Of a text on a page; the whole text is in answers.jsonl.
FLAGS = dict(empty="empty answer", symbols="only symbols", repeats="repeats itself")
_LETTER = re.compile(r"[A-Za-z]")


def shortened(text: Any) -> str:
  """The beginning of a long text."""
  words = printable("" if text is None else text)
  if len(words) <= MOST_CHARACTERS:
    return words
  return f"{words[:MOST_CHARACTERS]}…"


def verdict(row: Mapping[str, Any]) -> str:
  """right | partly right | wrong | not understood | not scored."""
  if not row["parsed"]:
    return "not understood"
  if row["score"] is None:
    return "not scored"
  if row["score"] >= 1:
    return "right"
  return "partly right" if row["score"] > 0 else "wrong"


def chosen_letter(row: Mapping[str, Any]) -> str:
  """The letter that was understood; "" for any other answer."""
  choice = str(row.get("choice") or "").strip("()")
  return choice if _LETTER.fullmatch(choice) else ""


def shown_answer(row: Mapping[str, Any], shows_text: bool) -> str:
  """The generated text, or only its letter."""
  return shortened(row["answer"]) if shows_text else chosen_letter(row)


def shown_question(row: Mapping[str, Any], shows_text: bool) -> str:
  """The question; "" where it must not be shown."""
  return shortened(row.get("question", "")) if shows_text else ""


def shown_expected(row: Mapping[str, Any], shows_text: bool) -> str:
  """The right answer; "" where it must not be shown."""
  return shortened(row.get("expected", "")) if shows_text else ""


def column_values(row: Mapping[str, Any], column: str) -> list[str]:
  """The groups of a row in a column: one, or several of a list."""
  value = row.get(column)
  if isinstance(value, list | tuple):
    return [shortened(item) for item in value]
  return [] if value in (None, "") else [shortened(value)]


def medium_name(row: Mapping[str, Any], shows_text: bool) -> str:
  """The file name of the medium; "" where it must not be shown."""
  if not shows_text:
    return ""
  return shortened(os.path.basename(str(row.get("media") or "").rstrip("/")))


def flag_words(row: Mapping[str, Any]) -> str:
  """What is degenerate about an answer; "" for an ordinary one."""
  flag = str(row.get("flag") or "")
  return FLAGS.get(flag, shortened(flag))
