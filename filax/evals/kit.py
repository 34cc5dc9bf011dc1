# SPDX-License-Identifier: Apache-2.0
"""The parts of a benchmark: examples, prompts, metrics and named protocols.

A benchmark is a file of filax/evals/benchmarks, or a private file, that defines BENCHMARKS (name ->
Benchmark); no other registration is needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import os
import typing
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.manifest.reader import ManifestReport
from data_pipelines.media import remote
from data_pipelines.sample import Timeline, Turn
from data_pipelines.text.choices import choice_lines


class Subtitle(NamedTuple):
  """A line of speech, in seconds of the video that is shown."""

  start: float
  stop: float
  text: str


@dataclasses.dataclass(frozen=True)
class Example:
  """One question.

  The parts of `turn` show the `media` in order (see data_pipelines.sample.Turn). A clip of a video
  is a timeline of one Scene with bounds. A question about several videos has several timelines.
  """

  id: str
  turn: Turn  # The question as the benchmark states it, without options.
  answer: str = ""  # Words, or the letter of an option; "" if the publisher keeps it.
  media: tuple[Timeline, ...] = ()
  references: tuple[str, ...] = ()  # Further right answers, for questions without options.
  options: tuple[str, ...] = ()  # Without their letters; empty for a free answer.
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # The record's columns.
  before: tuple[Turn, ...] = ()  # The record's own system turn.
  subtitles: tuple[Subtitle, ...] | None = None  # None: the video has no subtitle file.
  span: tuple[float, float] | None = None  # The right answer of temporal grounding, in seconds.


class ShownMedia(NamedTuple):
  """What a prompt may depend on: duration and frame times."""

  duration: float  # Seconds of the first video; 0 without one.
  times: np.ndarray  # float [T]: seconds of its sampled frames.


class Prompt(NamedTuple):
  """The turns of a question, and the first words of its answer."""

  turns: tuple[Turn, ...]
  answer_start: str = ""  # Written by us after "assistant"; the model continues it.


@dataclasses.dataclass(frozen=True)
class Score:
  """The verdict on one answer."""

  value: float  # 0..1: what the main score averages.
  answer: str | None = None  # What was understood; None if nothing was.
  iou: float | None = None  # Overlap with the right span, of temporal grounding.
  joint: bool | None = None  # For linked questions: whether all of them are right.
  empty: bool = False  # Whether the text has no words; some denominators leave it out.
  error: float | None = None  # Distance from the right number, of counting.
  pending: bool = False  # Whether nothing could be said; a restart scores the answer again.

  @property
  def parsed(self) -> bool:
    """Whether the answer was understood."""
    return self.answer is not None


class Metric(typing.Protocol):
  """Scores answers and averages the scores (filax/evals/metrics, a file each)."""

  @property
  def headline(self) -> str:
    """The name of the score that stands for the benchmark, e.g. "accuracy"."""
    ...

  def score(self, text: str, example: Example) -> Score:
    """The verdict on a generated text."""
    ...

  def average(self, scores: Sequence[Score]) -> dict[str, float]:
    """Named averages of a group of scores; {} without scores.

    `headline` is among them.
    """
    ...


@typing.runtime_checkable
class RemoteMetric(Metric, typing.Protocol):
  """A metric that asks a server, when all answers are there.

  Several threads call `score`. Answers whose score is `pending` are scored by the next run.
  """

  def answers_at_once(self) -> int:
    """How many answers are scored at a time.

    It is called before the first question, so that wrong settings are met early.
    """
    ...


@dataclasses.dataclass(frozen=True)
class NamedProtocol:
  """How published numbers were made: prompt, extractor and averages."""

  prompt: Callable[[Example, ShownMedia], Prompt]
  metric: Metric
  version: str = ""  # The code that the protocol follows, e.g. "VideoChat-Flash 2f8e2f5".
  max_new_tokens: int | None = None  # None: config.infer's.
  frames: str = ""  # The frame rule of the published numbers in words, for the report.
  # Answers and their right answers -> scores of the whole set, beside the averages.
  set_scores: Callable[[Sequence[str], Sequence[Sequence[str]]], dict[str, float]] | None = None
  macro: bool = False  # Whether the main score is the mean over `Benchmark.macro`.
  note: str = ""  # For the report, e.g. "paper silent".
  # Other media than those of the example, e.g. single frames between lines of text.
  arrange: Callable[[Example], Example] | None = None
  # Files that its prompt reads besides the media, e.g. subtitles. They must exist.
  files: Callable[[Example], Sequence[str]] | None = None
  deviation: str = ""  # Why no score under it is comparable; "" if nothing is known to differ.
  questions: int | None = None  # Published number, where it differs from the benchmark's.

  @property
  def report_note(self) -> str:
    """The note and the frame rule, for the report."""
    if not self.frames:
      return self.note
    rule = f"Frames of the published numbers: {self.frames}."
    return f"{self.note} {rule}".strip()


@dataclasses.dataclass
class Source:
  """The files of a benchmark, and the findings while reading them."""

  data: str  # The folder of the benchmark, or a manifest.
  root: str = ""  # The folder of its media; "" = beside the annotations.
  allow_missing: bool = False  # Whether annotation files may be missing.
  report: ManifestReport = dataclasses.field(default_factory=ManifestReport)
  annotations: list[str] = dataclasses.field(default_factory=list)  # Files that were read.
  missing: list[str] = dataclasses.field(default_factory=list)  # A sentence per missing file.

  def find_annotation(self, names: Sequence[str], publisher: str) -> str | None:
    """The first of `names` that exists below `data`; notes it in `annotations`.

    None if none exists and `allow_missing` is set. Raises MissingAnnotation otherwise.
    """
    for name in names:
      path = os.path.join(self.data, name)
      if remote.exists(path):
        self.annotations.append(path)
        return path
    sentence = f"{os.path.join(self.data, names[0])} is missing. {publisher}".rstrip()
    if not self.allow_missing:
      raise MissingAnnotation(sentence)
    self.missing.append(sentence)
    return None


class MissingAnnotation(ValueError):
  """A file of a benchmark is missing.

  The message says where the publisher offers the file.
  """


class BadAnnotation(ValueError):
  """An annotation file lacks fields that the benchmark has.

  The message names the fields.
  """


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A benchmark: its questions and the protocols of asking them."""

  read_examples: Callable[[Source], Iterator[Example]]
  protocols: Mapping[str, NamedProtocol]  # The first one is the default of other model families.
  by: tuple[str, ...] = ("kind",)  # Columns to report by; a list counts in each of its groups.
  macro: str = ""  # The column over whose values the macro average is taken.
  questions: int | None = None  # Published number; fewer answers are not comparable.
  chance: float | None = None  # The score of guessing.
  publisher: str = ""  # Where the files are, in one sentence.
  shows_text: bool = True  # False: the licence forbids questions and thumbnails on pages.
  frames: int = 0  # Candidate frames per video; 0 = from the checkpoint's config.infer.
  submission: Callable[[Sequence[Mapping[str, Any]]], Any] | None = None  # Answer rows -> JSON.


def multiple_choice(example: Example) -> Turn:
  """The question, its lettered options, and a request for a letter."""
  parts = (*example.turn.parts, choice_lines(example.options))
  return dataclasses.replace(example.turn, parts=parts)
