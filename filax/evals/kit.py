# SPDX-License-Identifier: Apache-2.0
"""The parts of a benchmark: questions, prompts, parsing and scores.

Each is a file of filax/evals/benchmarks with one BENCHMARK; the file is the registration.
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
  """One question. The parts of its turn show `media` in order (data_pipelines.sample.Turn)."""

  id: str
  turn: Turn
  answer: str  # As the manifest has it: words, or the letter of an option.
  media: tuple[Timeline, ...] = ()
  options: tuple[str, ...] = ()  # Without their letters; empty for a free answer.
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # The record's columns.
  before: tuple[Turn, ...] = ()  # The record's own system turn.


# (manifest, folder of the media, report that bad records go to) -> examples
ExampleReader = Callable[[str, str, ManifestReport], Iterator[Example]]


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Functions that read, ask, parse and score the questions of a benchmark."""

  read: ExampleReader  # The examples of a manifest.
  prompt: Callable[[Example], Turn]  # The user's turn.
  parse: Callable[[str, Example], str | None]  # Generated text -> answer; None: not understood.
  score: Callable[[str, Example], float]  # (parsed answer, example) -> 0..1
  by: tuple[str, ...] = ("kind",)  # Columns of the record by which accuracy is told apart.
  manifest: str = ""  # Where the questions are, unless the caller names another.
  frames: int = 0  # Candidate frames a video; 0 = as the checkpoint's config.infer says.


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

  The manifest has it as a letter, as its text, or as both.

  Raises ValueError if that is none of the options, or if letter and text disagree.
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
  """The letter that a generated text chooses.

  None if it names none, or more than one.

  filax.evals.metrics.letters says in which forms a letter is read.
  """
  return letters.chosen(text, example.options)
