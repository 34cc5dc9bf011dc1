# SPDX-License-Identifier: Apache-2.0
"""The questions that a record of a manifest asks, taken apart again.

Options stand in the turn ("A. ..." or "(A) ..." lines), or in the record's `options`.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import re
from typing import Any

from data_pipelines.sample import Sample, Timeline
from data_pipelines.synthesis.splits import source_key

ORDER_TASKS = ("event_order", "scene_order")
_OPTION = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*(.*)")
_ANSWER = re.compile(
  r"\s*(?:(?:the )?(?:best )?(?:answer|option)(?: is)?:?\s*)?"
  r"(?:\(([A-Z])\)|([A-Z])(?:[.):]|\s*$))",
  re.IGNORECASE,
)
_LISTED = re.compile(r"\s*([0-9]+)\. (.*)")
_WORD = re.compile(r"\w+")
NOT_GIVEN = -1  # The right option of a question whose answer is none of them.


@dataclasses.dataclass(frozen=True)
class AskedQuestion:
  """One question of a record with its answer."""

  task: str
  source: str
  key: str  # The source video.
  stem: str  # The question without options.
  options: tuple[str, ...]  # Empty for a free answer.
  right: int  # The place of the answer in `options`, or NOT_GIVEN.
  answer: str  # As it is written.
  listed: tuple[str, ...]  # The numbered lines of the stem.
  media: tuple[Timeline, ...]
  made: Mapping[str, Any]  # How it was derived; empty if the record does not say.

  @property
  def answer_text(self) -> str:
    """The words of the answer: those of the option for a letter."""
    return self.options[self.right] if self.right >= 0 else self.answer


@functools.lru_cache(1 << 16)
def normal(text: str) -> str:
  """A text as its words in lower case."""
  return " ".join(_WORD.findall(text.lower()))


def asked_questions(record: Mapping[str, Any], sample: Sample) -> Iterator[AskedQuestion]:
  """The questions of a record.

  sample: the record as training reads it.
  """
  entry = record.get("made")
  made = entry if isinstance(entry, Mapping) else {}
  task = str(made.get("task") or record.get("kind") or record.get("question_type") or "")
  source = str(made.get("source") or record.get("data_source") or "")
  key = str(made.get("track") or _sample_key(sample))
  question = ""
  for turn in sample.turns:
    if turn.role == "user":
      question = turn.text.strip()
    elif turn.role == "assistant":
      stem, options = split_options(question)
      if not options and isinstance(record.get("options"), list):
        options = tuple(map(str, record["options"]))
        options = _without_letters(options)
      answer = turn.text.strip()
      yield AskedQuestion(
        task,
        source,
        key,
        stem,
        options,
        right_option(answer, options),
        answer,
        listed_lines(stem),
        sample.media,
        made,
      )


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
  """(stem, options) of a question.

  Options are the last lines with the letters A, B, ...; what follows them is an instruction.
  """
  lines = text.split("\n")
  for first in range(len(lines) - 1, -1, -1):
    options = _options_from(lines[first:])
    if len(options) > 1:
      return "\n".join(lines[:first]).strip(), options
  return text, ()


def _options_from(lines: Sequence[str]) -> tuple[str, ...]:
  """The options in lines that begin with option A."""
  options: list[str] = []
  for line in lines:
    match = _OPTION.fullmatch(line)
    if match is None or (match[1] or match[2]) != chr(ord("A") + len(options)):
      break
    options.append(match[3].strip())
  return tuple(options)


def _without_letters(options: tuple[str, ...]) -> tuple[str, ...]:
  return _options_from(options) if len(_options_from(options)) == len(options) else options


def right_option(answer: str, options: Sequence[str]) -> int:
  """The option that an answer names, or NOT_GIVEN."""
  match = _ANSWER.match(answer)
  if match:
    number = ord((match[1] or match[2]).upper()) - ord("A")
    if number < len(options):
      return number
  places = [place for place, option in enumerate(options) if normal(option) == normal(answer)]
  return places[0] if len(places) == 1 else NOT_GIVEN


def listed_lines(stem: str) -> tuple[str, ...]:
  """The lines "1. ...", "2. ..." of a stem without their numbers."""
  listed: list[str] = []
  for line in stem.split("\n"):
    match = _LISTED.fullmatch(line)
    if match and int(match[1]) == len(listed) + 1:
      listed.append(match[2].strip())
  return tuple(listed)


def _sample_key(sample: Sample) -> str:
  """The source video of the first medium."""
  if not sample.media:
    return ""
  return media_key(sample.media[0][0].media)


@functools.lru_cache(1 << 14)
def media_key(name: str) -> str:
  """The source video of a medium."""
  try:
    return source_key(name)
  except ValueError:
    return name  # A name that identifies no video is its own key.
