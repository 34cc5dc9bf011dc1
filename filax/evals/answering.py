# SPDX-License-Identifier: Apache-2.0
"""One pass over questions: prompts are collected into batches, answered and scored."""

import collections
from collections.abc import Callable, Mapping, Sequence
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.media.open import MediaError
from data_pipelines.sample import Timeline
from filax.evals.kit import Benchmark, Example, NamedProtocol, ShownMedia
from filax.evals.progress_line import ProgressLine
from filax.evals.reading import DecodedMedium, ReadMedium
from filax.infer import compiled, encode, encoded_media
from filax.infer.encoded_media import EncodedMedia
from filax.infer.generate import DECODE, PREFILL, check_prompts, generate
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo
from filax.spec import TEXT

PROGRAMS = (encode.EMBED, PREFILL, DECODE)  # All compiled programs of answering.


class WaitingQuestion(NamedTuple):
  """A question that waits for its answer."""

  example: Example
  tokens: list[int]
  visual_index: np.ndarray
  table: jax.Array  # [M D]


class EvaluationRun:
  """The questions waiting for a full batch, and the answers so far."""

  def __init__(
    self,
    loaded: LoadedModel,
    benchmark: Benchmark,
    protocol: NamedProtocol,
    settings: Mapping[str, Any],
    *,
    total: int,
    batch: int,
    blind: bool,
    progress: bool,
  ):
    self.loaded = loaded
    self.benchmark = benchmark
    self.protocol = protocol
    self.settings = settings
    self.batch = batch
    self.blind = blind
    self.waiting: list[WaitingQuestion] = []
    self.answers: list[dict[str, Any]] = []
    self.media: set[Timeline] = set()
    self.bad_media: dict[str, str] = {}  # Medium -> why it is unreadable.
    self.bad_questions: list[str] = []  # Other questions that were skipped, and why.
    self.skipped = 0
    self.finished = False
    self.after_answers: Callable[[], None] | None = None
    self.seconds: dict[str, float] = collections.defaultdict(float)
    self.start = time.perf_counter()
    self._lap_start = self.start
    self._progress = ProgressLine(total, self.start) if progress else None
    self._compilations_before = compiled.compilations(PROGRAMS)

  def add_questions(self, group: Sequence[Example], media: Sequence[ReadMedium]) -> None:
    """Adds the questions about one set of media and answers full batches."""
    self._end_lap("wait")
    self.media.update(group[0].media)
    if self._note_bad_media(group[0].media, media):
      self.skipped += len(group)
      return
    try:
      encoded = self._encode_media(media)
    except ValueError as error:
      self._refuse(group, error)
      return
    llm = self.loaded.model.llm
    no_tokens = jnp.zeros((1, llm.width), llm.dtype)
    table = encoded_media.joined_table(encoded) if encoded else no_tokens
    for example in group:
      try:
        tokens, index = self._encode_prompt(example, encoded)
      except ValueError as error:
        self._refuse([example], error)
      else:
        self.waiting.append(WaitingQuestion(example, tokens, index, table))
    self._end_lap("encode")
    while len(self.waiting) >= self.batch:
      self._answer_batch(self.waiting[: self.batch])
      del self.waiting[: self.batch]
      self.print_progress()

  def flush(self) -> None:
    """Answers the remaining questions, padding the batch with the first prompt."""
    rest = self.waiting
    if rest:
      filling = rest[:1] * (self.batch - len(rest))
      self._answer_batch(rest + filling, len(rest))
      self.waiting = []

  def print_progress(self, last: bool = False) -> None:
    """Prints a progress line on stderr periodically, and at the end."""
    if self._progress is None:
      return
    done = len(self.answers) + self.skipped
    accuracy = mean_score(self.answers)
    self._progress.print_line(done, len(self.bad_media), accuracy, last)

  def summary(self, path: str) -> dict[str, Any]:
    """The report of `evaluate`."""
    processor = self.loaded.processor
    total = time.perf_counter() - self.start
    seconds = {name: round(value, 3) for name, value in self.seconds.items()}
    return dict(
      manifest=path,
      checkpoint=processor.source,
      selector=processor.infer["selector"]["name"],
      frames=processor.sampling.get("frames"),
      blind=self.blind,
      accuracy=mean_score(self.answers),
      questions=len(self.answers),
      videos=len(self.media),
      skipped=self.skipped,
      unparsed=sum(not row["parsed"] for row in self.answers),
      bad_media=self.bad_media,
      bad_questions=self.bad_questions,
      finished=self.finished,
      by={column: accuracy_by(self.answers, column) for column in self.benchmark.by},
      seconds=seconds | dict(total=round(total, 3)),
      compilations=compiled.compilations(PROGRAMS) - self._compilations_before,
      answers=self.answers,
    )

  def _note_bad_media(self, timelines: Sequence[Timeline], media: Sequence[ReadMedium]) -> bool:
    """Records unreadable media in `bad_media`; returns whether there are any."""
    any_bad = False
    for timeline, medium in zip(timelines, media, strict=True):
      if isinstance(medium, MediaError):
        self.bad_media[timeline[0].media] = str(medium)
        any_bad = True
    return any_bad

  def _refuse(self, group: Sequence[Example], error: ValueError) -> None:
    """Counts and lists skipped questions."""
    self.skipped += len(group)
    for example in group:
      self.bad_questions.append(f"{example.id}: {error}")

  def _encode_media(self, media: Sequence[ReadMedium]) -> list[EncodedMedia]:
    """The visual tokens of media.

    Raises the ValueError of an unreadable medium.
    """
    decoded: list[DecodedMedium] = []
    for medium in media:
      if isinstance(medium, ValueError):
        raise medium
      decoded.append(medium)
    return list(map(self._encode_medium, decoded))

  def _encode_medium(self, medium: DecodedMedium) -> EncodedMedia:
    if isinstance(medium, DecodedVideo):
      return encode.encode_video(self.loaded, medium)
    picture, views = medium
    return encode.encode_picture(self.loaded, picture, views)

  def _encode_prompt(
    self, example: Example, media: Sequence[EncodedMedia]
  ) -> tuple[list[int], np.ndarray]:
    """Tokens and visual index of a question.

    Raises ValueError if it exceeds context or buckets.
    """
    prompt = self.protocol.prompt(example, shown_media(media))
    tokens, index = self.loaded.processor.encode_prompt(prompt.turns, media)
    if prompt.answer_start:
      start = self.loaded.processor.tokenizer.encode(prompt.answer_start)
      tokens = [*tokens, *start]
      index = np.concatenate([index, np.full(len(start), TEXT, np.int32)])
    check_prompts(self.loaded.model, [tokens], self.settings["max_new_tokens"])
    compiled.bucket(len(tokens), self.settings["lengths"], "config.infer.lengths")
    return tokens, index

  def _answer_batch(self, rows: Sequence[WaitingQuestion], real: int | None = None) -> None:
    """Generates the answers of a batch; scores the first `real` ones."""
    examples, prompts, index, tables = zip(*rows, strict=True)
    generated = generate(
      self.loaded.model,
      self.loaded.params,
      prompts,
      table=encoded_media.stacked_tables(tables),
      visual_index=index,
      mesh=self.loaded.processor.mesh,
      **self.settings,
    )
    for example, ids in zip(examples[:real], generated.tokens[:real], strict=True):
      text = self.loaded.processor.answer_text(ids)
      self.answers.append(self._score(example, text))
    self._end_lap("generate")
    if self.after_answers is not None:
      self.after_answers()

  def _score(self, example: Example, text: str) -> dict[str, Any]:
    """The report's row for one answer."""
    score = self.protocol.metric.score(text, example)
    columns = {name: str(example.fields.get(name) or "") for name in self.benchmark.by}
    return dict(
      id=example.id,
      question=example.turn.text.strip(),
      answer=text,
      expected=example.answer,
      score=score.value,
      parsed=score.parsed,
      **columns,
    )

  def _end_lap(self, phase: str) -> None:
    """Adds the time since the last lap to a phase."""
    now = time.perf_counter()
    self.seconds[phase] += now - self._lap_start
    self._lap_start = now


def shown_media(media: Sequence[EncodedMedia]) -> ShownMedia:
  """The duration and frame times of the first video among media."""
  for medium in media:
    if len(medium.groups):
      return ShownMedia(medium.text.duration, np.asarray(medium.text.times))
  return ShownMedia(0.0, np.zeros(0))


def accuracy_by(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, dict[str, Any]]:
  """Value of a column -> accuracy and number of its questions."""
  groups = collections.defaultdict(list)
  for row in rows:
    groups[row[column]].append(row)
  table = {}
  for name, group in sorted(groups.items()):
    table[name] = dict(accuracy=mean_score(group), questions=len(group))
  return table


def mean_score(rows: Sequence[Mapping[str, Any]]) -> float | None:
  """The mean score; None without rows."""
  if not rows:
    return None
  return sum(row["score"] for row in rows) / len(rows)
