# SPDX-License-Identifier: Apache-2.0
"""Asks the questions about media that were read: encodes, prompts, answers, scores.

The device encodes the next set of media while the host prepares the questions about the last one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_pipelines.media.open import MediaError
from filax.evals.account import Account
from filax.evals.answering import PROGRAMS, GeneratedAnswer, QuestionQueue, prompt_text
from filax.evals.device_time import DeviceClock
from filax.evals.evaluation import Evaluation
from filax.evals.kit import Example
from filax.evals.reading import ReadGroup
from filax.evals.rows import Row, answer_row
from filax.evals.visuals import MediaEncoder
from filax.infer import compiled
from filax.infer.encode import StartedVideo
from filax.infer.encoded_media import EncodedMedia


class StartedGroup(NamedTuple):
  """Questions whose media are being encoded."""

  examples: Sequence[Example]
  media: list[StartedVideo | EncodedMedia]


class Asking:
  """Turns sets of media into rows of answers."""

  def __init__(self, evaluation: Evaluation, account: Account, batch: int):
    loaded = evaluation.loaded
    self._evaluation = evaluation
    self._account = account
    self._clock = DeviceClock()
    self._encoder = MediaEncoder(loaded, self._clock)
    self._queue = QuestionQueue(
      loaded, evaluation.protocol, evaluation.settings, batch, self._clock
    )
    self._started: StartedGroup | None = None
    self._compilations_before = compiled.compilations(PROGRAMS)

  def add_group(self, group: ReadGroup) -> Iterator[list[Row]]:
    """Starts a set of media, and asks about the one before it.

    Yields the rows of every full batch.
    """
    before = self._started
    self._started = self._start(group)
    if before is not None:
      yield from self._ask_about(before)

  def flush(self) -> Iterator[list[Row]]:
    """Asks all that still waits."""
    if self._started is not None:
      yield from self._ask_about(self._started)
      self._started = None
    while answers := self._queue.answer_batch():
      yield self._rows(answers)
    self._clock.wait_until_idle()

  def note_times(self, total: float) -> None:
    """Writes the times so far to the account; `total` seconds have passed."""
    self._account.seconds |= self._clock.seconds() | dict(total=total)
    self._account.busy = self._clock.busy_seconds()
    self._account.compilations = compiled.compilations(PROGRAMS) - self._compilations_before

  def end_measurement(self) -> None:
    """Ends the measurement of the device."""
    self._clock.stop_watching()

  def _start(self, group: ReadGroup) -> StartedGroup | None:
    """Starts to encode; None if the media are bad."""
    timelines = group.examples[0].media
    reason = ""
    for timeline, medium in zip(timelines, group.media, strict=True):
      if isinstance(medium, MediaError):
        reason = reason or str(medium)
        self._account.bad_media[timeline[0].media] = str(medium)
    if reason:
      for example in group.examples:
        self._account.skipped[example.id] = reason
      return None
    try:
      return StartedGroup(group.examples, self._encoder.start_encoding(group.media))
    except ValueError as error:
      self._refuse(group.examples, error)
      return None

  def _ask_about(self, group: StartedGroup) -> Iterator[list[Row]]:
    """Adds questions to the queue; yields the rows of every full batch."""
    encoded = self._encoder.finish_encoding(group.media)
    for example in group.examples:
      try:
        question = self._queue.add_question(example, encoded)
      except Exception as error:  # A protocol may raise anything for a bad record.
        self._refuse([example], error)
        continue
      if not self._account.first_prompt:
        processor = self._evaluation.loaded.processor
        self._account.first_prompt = prompt_text(processor, question)
    while self._queue.has_batch():
      yield self._rows(self._queue.answer_batch())

  def _rows(self, answers: Sequence[GeneratedAnswer]) -> list[Row]:
    """The rows of answers, without those that the metric cannot score."""
    rows = []
    for answer in answers:
      try:
        row = answer_row(self._evaluation.benchmark, self._evaluation.protocol, answer)
      except Exception as error:  # A metric may raise anything for a bad record.
        self._refuse([answer.question.example], error)
      else:
        rows.append(row)
    return rows

  def _refuse(self, examples: Sequence[Example], error: Exception) -> None:
    """Lists questions that cannot be asked or scored."""
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    for example in examples:
      self._account.refuse(example.id, reason)
