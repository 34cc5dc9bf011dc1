# SPDX-License-Identifier: Apache-2.0
"""The parts of a benchmark: questions, prompts, parsing and scores.

A benchmark is a file of filax/evals/benchmarks that defines BENCHMARK; no other registration is
needed.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
from typing import Any

from data_pipelines.manifest.reader import ManifestReport
from data_pipelines.sample import Timeline, Turn
from filax.evals.metrics import letters, options
from filax.evals.metrics.options import LETTERS, without_letter  # noqa: F401  (public here)
from filax.evals.metrics.plain_text import normalised


@dataclasses.dataclass(frozen=True)
class Example:
  """One question.

  The parts of its turn show `media` in order (data_pipelines.sample.Turn).
  """

  id: str
  turn: Turn
  answer: str  # As in the manifest: words, or the letter of an option.
  media: tuple[Timeline, ...] = ()
  options: tuple[str, ...] = ()  # Without their letters; empty for a free answer.
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # The record's columns.
  before: tuple[Turn, ...] = ()  # The record's own system turn.


# (manifest, folder of the media, report of bad records) -> examples
ExampleReader = Callable[[str, str, ManifestReport], Iterator[Example]]


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Functions that read, ask, parse and score a benchmark's questions."""

  read: ExampleReader  # The examples of a manifest.
  prompt: Callable[[Example], Turn]  # The user's turn.
  parse: Callable[[str, Example], str | None]  # Generated text -> answer; None if not understood.
  score: Callable[[str, Example], float]  # (parsed answer, example) -> 0..1
  by: tuple[str, ...] = ("kind",)  # Columns of the record to report accuracy by.
  manifest: str = ""  # Default manifest.
  frames: int = 0  # Candidate frames per video; 0 = from the checkpoint's config.infer.


def free_answer(text: str, example: Example) -> str | None:
  """The words of a free answer; None if it has none."""
  del example
  return normalised(text) or None


def exact_match(answer: str, example: Example) -> float:
  """1 if the parsed answer is the right one."""
  right = right_letter(example) if example.options else normalised(example.answer)
  return float(answer == right)


def right_letter(example: Example) -> str:
  """The letter of the right option.

  The manifest gives it as a letter, as its text, or as both.

  Raises ValueError if it is none of the options, or if letter and text disagree.
  """
  letter = options.named_option(example.answer, example.options)
  if letter is None:
    raise ValueError(f"has the answer {example.answer!r}, which is not one of its options")
  return letter


def multiple_choice(example: Example) -> Turn:
  """The question, its lettered options, and a request for a letter."""
  lines = []
  for number, option in enumerate(example.options):
    lines.append(f"\n{LETTERS[number]}. {option}")
  lines.append("\nAnswer with the option's letter from the given choices directly.")
  parts = (*example.turn.parts, "".join(lines))
  return dataclasses.replace(example.turn, parts=parts)


def chosen_letter(text: str, example: Example) -> str | None:
  """The letter that a generated text chooses, or None.

  None for no letter, or for more than one. filax.evals.metrics.letters lists the accepted forms.
  """
  return letters.chosen(text, example.options)
