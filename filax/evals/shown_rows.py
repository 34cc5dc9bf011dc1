# SPDX-License-Identifier: Apache-2.0
"""What a page may show of an answer.

A benchmark whose licence forbids it (`shows_text` False) shows ids, letters and verdicts: no
question, no right answer, no generated text, no columns of the annotation, no path of a video.
"""

import os
import re
from typing import Any

from filax.evals.html_page import printable
from filax.evals.results import Row

MOST_CHARACTERS = 600  # The longest text on a page; the whole text is in answers.jsonl.
FLAGS = dict(empty="empty", symbols="only symbols", repeats="repeats itself")
_LETTER = re.compile(r"\(?([A-Za-z])\)?")


def short_text(value: Any) -> str:
  """The text of a value, a long one cut; "" for None."""
  if value is None:
    return ""
  text = printable(value)
  if len(text) > MOST_CHARACTERS:
    return f"{text[:MOST_CHARACTERS]}…"
  return text


def verdict(row: Row) -> str:
  """The verdict in words.

  right | partly right | wrong | waiting | not understood | not scored.
  """
  score = row["score"]
  if row.get("pending"):
    return "waiting"
  if not row["parsed"]:
    return "not understood"
  if score is None:
    return "not scored"
  if score >= 1:
    return "right"
  if score > 0:
    return "partly right"
  return "wrong"


def shown_answer(row: Row, shows_text: bool) -> str:
  """The generated text, or only the letter that was understood."""
  if shows_text:
    return short_text(row["answer"])
  choice = short_text(row.get("choice"))
  letter = _LETTER.fullmatch(choice)
  return letter[1] if letter else ""


def shown_question(row: Row, shows_text: bool) -> str:
  """The question; "" where it must not be shown."""
  if not shows_text:
    return ""
  return short_text(row.get("question"))


def shown_expected(row: Row, shows_text: bool) -> str:
  """The right answers; "" where they must not be shown."""
  if not shows_text:
    return ""
  answers = [short_text(row.get("expected")), *column_values(row, "references")]
  return short_text(" / ".join(dict.fromkeys(answers)))


def column_values(row: Row, column: str) -> list[str]:
  """The groups of a row in a column; a list gives several."""
  value = row.get(column)
  if isinstance(value, list | tuple):
    return list(map(short_text, value))
  text = short_text(value)
  return [text] if text else []


def medium_path(row: Row) -> str:
  """The path of the medium; "" of a question about words alone."""
  return str(row.get("media") or "")


def medium_name(row: Row) -> str:
  """The file name of the medium."""
  path = medium_path(row).rstrip("/")
  return short_text(os.path.basename(path))


def flag_words(row: Row) -> str:
  """What is degenerate about an answer; "" for an ordinary one."""
  flag = short_text(row.get("flag"))
  return FLAGS.get(flag, flag)
