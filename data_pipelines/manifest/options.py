# SPDX-License-Identifier: Apache-2.0
"""The options of a question that stand beside it, under a key of their own.

  {"question": "Which colour?", "options": ["red", "blue"], "answer": "B", "video": "a.mp4"}

They are written under the question, as evaluations write them, and the answer becomes a letter.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.text.choices import LETTERS, choice_lines, option_lines

KEYS = ("options", "choices", "candidates")
_FEWEST = 2
# Keys of other sets: "option_A", "choice 1", "a0" or a letter alone, each with one option.
_ONE_OPTION = re.compile(r"(?:(?i:option|choice|candidate)s?[ _]?[A-Ja-j0-9]|[A-J]|a[0-9])")
_LIST = re.compile(r"option|choice|candidate", re.IGNORECASE)
_LETTERED = re.compile(r"\s*(?:\(([A-J])\)|([A-J])[.):])\s*(.+)", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Ja-j])\)?[.):]?")


def has_options(record: Mapping[str, Any]) -> bool:
  """Whether a record lists options under a key that is read."""
  return any(record.get(key) not in (None, "", [], {}) for key in KEYS)


def asked_with_options(record: Mapping[str, Any], question: str, answer: Any) -> tuple[str, Any]:
  """(the question with its options, the letter of the answer).

  Both stay as they are in a record without options, and if the question lists them already. Raises
  RecordError for options that are not read, and for an answer that names none of them.
  """
  options = _listed_options(record)
  if not options:
    _check_other_keys(record, question)
    return question, answer
  if lists_options(question, options):
    return question, answer
  letter = _letter(answer, options)
  if letter is None:
    remedy = "write its letter or its text"
    if _is_number(answer):
      remedy = "a number may count from 0 or from 1: write a letter, such as B, or the text"
    raise RecordError(
      f"has the answer {excerpt(answer)}, which names none, or several, of its {len(options)} "
      f"options; {remedy}"
    )
  return question + choice_lines(options), letter


def turns_with_options(
  record: Mapping[str, Any], turns: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
  """The turns of a conversation whose options stand beside it.

  turns: (role, text). A question whose answer names an option gets the options, and the answer
  becomes a letter; other questions stay. Raises RecordError for a letter without an option.
  """
  asked = list(turns)
  if not has_options(record):
    return asked
  try:
    options = _listed_options(record)
  except RecordError:
    if any(role == "assistant" and _LETTER.fullmatch(text.strip()) for role, text in turns):
      raise
    return asked
  for number, (role, answer) in enumerate(asked[1:], 1):
    question = asked[number - 1]
    if (question[0], role) != ("user", "assistant") or lists_options(question[1], options):
      continue
    letter = _letter(answer, options)
    if letter is not None:
      asked[number - 1] = "user", question[1] + choice_lines(options)
      asked[number] = role, letter
    elif _LETTER.fullmatch(answer.strip()):
      raise RecordError(
        f"has the answer {excerpt(answer)}, which names none, or several, of its {len(options)} "
        "options"
      )
  return asked


def with_option_lines(record: Mapping[str, Any], question: str) -> str:
  """A question with its options, and without a request for a letter.

  Raises RecordError for options that are not read.
  """
  options = _listed_options(record)
  if not options:
    _check_other_keys(record, question)
  if not options or lists_options(question, options):
    return question
  return question + option_lines(options)


def _listed_options(record: Mapping[str, Any]) -> list[str]:
  """The options of a record, without letters before them. Raises RecordError."""
  filled = [key for key in KEYS if record.get(key) not in (None, "", [], {})]
  if not filled:
    return []
  if len(filled) > 1:
    raise RecordError(f"has {filled[0]} and {filled[1]}; list all options in one of them")
  value = record[filled[0]]
  if isinstance(value, Mapping) and sorted(value) == list(LETTERS[: len(value)]):
    value = [value[letter] for letter in sorted(value)]
  if not isinstance(value, list) or not all(map(_is_option, value)):
    raise RecordError(f"has {filled[0]} {excerpt(value)}, which is not a list of texts")
  if not _FEWEST <= len(value) <= len(LETTERS):
    raise RecordError(
      f"has {len(value)} {filled[0]}; questions with {_FEWEST} to {len(LETTERS)} of them are read"
    )
  return _without_letters([str(option).strip() for option in value])


def _is_option(value: Any) -> bool:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number or (isinstance(value, str) and bool(value.strip()))


def _without_letters(options: Sequence[str]) -> list[str]:
  """The options without "A." or "(A)", if all have theirs."""
  texts = []
  for letter, option in zip(LETTERS, options, strict=False):
    match = _LETTERED.fullmatch(option)
    if match is None or (match[1] or match[2]) != letter:
      return list(options)
    texts.append(match[3].strip())
  return texts


def lists_options(question: str, options: Sequence[str]) -> bool:
  """Whether a question has every option behind its letter."""
  for letter, option in zip(LETTERS, options, strict=False):
    if not re.search(rf"(?<!\w){letter}[.):]\s*{re.escape(option)}", question):
      return False
  return True


def _is_number(answer: Any) -> bool:
  return isinstance(answer, int | float) or (isinstance(answer, str) and answer.strip().isdigit())


def _letter(answer: Any, options: Sequence[str]) -> str | None:
  """The letter of the one option that an answer names, else None.

  A number names the option with its digits as text, never one by its place.
  """
  if isinstance(answer, float) and answer.is_integer():  # A column with empty cells has floats.
    answer = int(answer)
  if not isinstance(answer, str | int | float):
    return None
  text = str(answer).strip()
  named = set()
  match = _LETTER.fullmatch(text)
  if match is not None:
    named.add(match[1].upper())
  lettered = _LETTERED.fullmatch(text)
  for letter, option in zip(LETTERS, options, strict=False):
    is_text = _plain(text) == _plain(option)
    is_both = lettered is not None and (lettered[1] or lettered[2]) == letter
    if is_text or (is_both and lettered is not None and _plain(lettered[3]) == _plain(option)):
      named.add(letter)
  if len(named) != 1 or not named <= set(LETTERS[: len(options)]):
    return None
  return named.pop()


def _plain(text: str) -> str:
  return text.casefold().strip().rstrip(".").rstrip()


def _check_other_keys(record: Mapping[str, Any], question: str) -> None:
  """Raises RecordError for options under other keys.

  A question may repeat the text of each: then nothing is lost.
  """
  single = []
  for key, value in record.items():
    if _ONE_OPTION.fullmatch(key) and _is_option(value) and str(value) not in question:
      single.append(key)
    if _LIST.search(key) and isinstance(value, list | Mapping) and len(value) >= _FEWEST:
      raise RecordError(
        f"has its options in {excerpt(key)}: {excerpt(value)}, which is not read; list them in "
        "options"
      )
  if len(single) >= _FEWEST:
    keys = ", ".join(map(excerpt, single))
    raise RecordError(f"has its options in {keys}, which are not read; list them in options")
