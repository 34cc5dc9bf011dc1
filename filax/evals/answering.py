# SPDX-License-Identifier: Apache-2.0
"""Collects prompts into batches and generates their answers."""

from collections.abc import Mapping, Sequence
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from filax.evals.device_time import DeviceClock
from filax.evals.kit import Example, NamedProtocol
from filax.evals.visuals import EncodedSet
from filax.infer import compiled, encode, encoded_media
from filax.infer.decoding import DECODE, START
from filax.infer.generate import PREFILL, check_prompts, generate
from filax.infer.loaded import LoadedModel
from filax.infer.processor import Processor
from filax.spec import TEXT

PROGRAMS = (encode.EMBED, PREFILL, START, DECODE)  # All compiled programs of answering.


class WaitingQuestion(NamedTuple):
  """A question that waits for its answer."""

  example: Example
  tokens: list[int]
  visual_index: np.ndarray
  table: jax.Array | np.ndarray  # [M D]
  duration: float  # Seconds of its first video.


class GeneratedAnswer(NamedTuple):
  """A question and the text that the model generated."""

  question: WaitingQuestion
  text: str


class QuestionQueue:
  """Prompts that wait for a full batch."""

  def __init__(
    self,
    loaded: LoadedModel,
    protocol: NamedProtocol,
    settings: Mapping[str, Any],
    batch: int,
    clock: DeviceClock,
  ):
    self._loaded = loaded
    self._protocol = protocol
    self._settings = settings
    self._batch = batch
    self._clock = clock
    self._waiting: list[WaitingQuestion] = []

  def add_question(self, example: Example, shown: EncodedSet) -> WaitingQuestion:
    """Adds a question.

    Raises ValueError if its prompt exceeds the context or the buckets of lengths, and whatever the
    protocol raises for an example that it cannot ask.
    """
    prompt = self._protocol.prompt(example, shown.shown)
    processor = self._loaded.processor
    tokens, index = processor.encode_prompt(prompt.turns, shown.media, prompt.answer_start)
    check_prompts(self._loaded.model, [tokens], self._settings["max_new_tokens"])
    compiled.bucket(len(tokens), self._settings["lengths"], "config.infer.lengths")
    table = encoded_media.waiting_table(shown.table, processor.mesh)
    question = WaitingQuestion(example, tokens, index, table, shown.shown.duration)
    self._waiting.append(question)
    return question

  def has_batch(self) -> bool:
    """Whether a full batch waits."""
    return len(self._waiting) >= self._batch

  def answer_batch(self) -> list[GeneratedAnswer]:
    """Answers the questions that waited longest.

    Fewer than a batch are filled up with repetitions.
    """
    rows = self._waiting[: self._batch]
    if not rows:
      return []
    del self._waiting[: self._batch]
    missing = self._batch - len(rows)
    generated = self._generate([*rows, *(rows[:1] * missing)])
    answers = []
    for question, ids in zip(rows, generated, strict=False):
      answers.append(GeneratedAnswer(question, self._loaded.processor.answer_text(ids)))
    return answers

  def _generate(self, rows: Sequence[WaitingQuestion]) -> list[list[int]]:
    """New token ids of every row."""
    mesh = self._loaded.processor.mesh
    generated = generate(
      self._loaded.model,
      self._loaded.params,
      [row.tokens for row in rows],
      table=encoded_media.stacked_tables([row.table for row in rows], mesh),
      visual_index=[row.visual_index for row in rows],
      mesh=mesh,
      **self._settings,
    )
    end = time.perf_counter()
    middle = end - generated.decode_seconds
    self._clock.add_time("prefill", middle - generated.prefill_seconds, middle)
    self._clock.add_time("generate", middle, end)
    return generated.tokens


def prompt_text(processor: Processor, question: WaitingQuestion) -> str:
  """The text of a prompt, with <n visual tokens> for media."""
  is_text = question.visual_index == TEXT
  changes = np.flatnonzero(np.diff(is_text)) + 1
  parts = []
  for places in np.split(np.arange(len(is_text)), changes):
    if is_text[places[0]]:
      ids = [question.tokens[place] for place in places]
      parts.append(processor.tokenizer.decode(ids, skip_special=False))
    else:
      parts.append(f"<{len(places)} visual tokens>")
  return "".join(parts)
