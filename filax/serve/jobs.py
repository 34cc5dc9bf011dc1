# SPDX-License-Identifier: Apache-2.0
"""A request on its way through the engine."""

import dataclasses
import enum
import time
from typing import Any

from filax.infer.encoded_media import EncodedMedia
from filax.infer.loaded import LoadedModel
from filax.infer.text_stream import TextStream
from filax.serve.handle import AnswerHandle
from filax.serve.lanes import LaneShape, PreparedPrompt
from filax.serve.media_reading import ReadPicture, ReadVideo
from filax.serve.requests import (
  LENGTH,
  STOP,
  AnswerPiece,
  AnswerRequest,
  EffectiveVideo,
  Medium,
  Usage,
)


class JobStage(enum.Enum):
  """How far a request has come."""

  WAITING = enum.auto()  # For a thread that reads its media.
  READING = enum.auto()
  READ = enum.auto()  # Its media wait for the encoder.
  PREPARED = enum.auto()  # Its prompt waits for a lane.
  RUNNING = enum.auto()
  ENDED = enum.auto()


@dataclasses.dataclass(eq=False)
class AnswerJob:
  """A request, what was read and computed for it, and its handle."""

  request: AnswerRequest
  settings: dict[str, Any]  # Of generate, without None.
  loaded: LoadedModel
  media: list[Medium]
  handle: AnswerHandle = dataclasses.field(default_factory=AnswerHandle)
  stage: JobStage = JobStage.WAITING
  since: float = dataclasses.field(default_factory=time.monotonic)  # Of this stage.
  submitted: float = dataclasses.field(default_factory=time.monotonic)
  read: list[ReadVideo | ReadPicture] = dataclasses.field(default_factory=list)
  encoded: list[EncodedMedia] = dataclasses.field(default_factory=list)
  cached: list[bool] = dataclasses.field(default_factory=list)
  prompt: PreparedPrompt | None = None
  prompt_tokens: int = 0
  lane: LaneShape | None = None
  answers: list["RunningAnswer"] = dataclasses.field(default_factory=list)
  seconds: dict[str, float] = dataclasses.field(
    default_factory=lambda: dict(queue=0.0, read=0.0, encode=0.0, prefill=0.0, decode=0.0)
  )

  def enter(self, stage: JobStage) -> None:
    """Moves on to another stage."""
    self.stage = stage
    self.since = time.monotonic()

  @property
  def is_answered(self) -> bool:
    """Whether all answers have ended."""
    return all(answer.ended for answer in self.answers)

  @property
  def prompt_visual_tokens(self) -> int:
    """Visual tokens of the prompt, before visual dropout."""
    return sum(media.tokens for media in self.encoded)

  def usage(self) -> Usage:
    """What the request has taken."""
    videos = []
    for read, media, cached in zip(self.read, self.encoded, self.cached, strict=True):
      if isinstance(read, ReadVideo):
        videos.append(_effective_video(read, media, cached))
    return Usage(
      prompt_tokens=self.prompt_tokens,
      visual_tokens=self.prompt_visual_tokens,
      answer_tokens=sum(answer.tokens for answer in self.answers),
      videos=tuple(videos),
      seconds=dict(self.seconds),
    )


class RunningAnswer:
  """One answer of a request, in a row of a lane."""

  def __init__(self, job: AnswerJob, index: int):
    self.job = job
    self.index = index
    self.tokens = 0
    self.ended = False
    decode = job.loaded.processor.tokenizer.decode
    self._text = TextStream(decode, job.request.settings.stop_strings)

  def add_ids(self, ids: list[int], stopped: bool) -> None:
    """Takes the next tokens, and gives their text to the client.

    stopped: the model has ended the answer.
    """
    self.tokens += len(ids)
    text = self._text.add_ids(ids)
    reason = ""
    if stopped or self._text.stopped:
      reason = STOP
    elif self.tokens >= self.job.settings["max_new_tokens"]:
      reason = LENGTH
    if reason:
      text += self._text.finish()
      self.ended = True
      if self._text.stopped:
        reason = STOP
    if text or reason:
      self.job.handle.give(AnswerPiece(self.index, text, reason))


def _effective_video(read: ReadVideo, media: EncodedMedia, cached: bool) -> EffectiveVideo:
  times = [round(read.start + float(second), 3) for second in media.text.times]
  length = max(read.end - read.start, 1e-9)
  return EffectiveVideo(
    frames=len(times),
    candidates=len(read.times),
    fps=round(len(read.times) / length, 4),
    start=round(read.start, 3),
    end=round(read.end, 3),
    duration=round(read.duration, 3),
    times=tuple(times),
    visual_tokens=media.tokens,
    cached=cached,
  )
