# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as plain data, used by server, web page and engine."""

from collections.abc import Mapping
import dataclasses

VIDEO = "video"
IMAGE = "image"
ROLES = ("system", "user", "assistant")

STOP = "stop"  # The model, or a stop string, ended the answer.
LENGTH = "length"  # max_new_tokens ended it.

_EACH_END = 400  # Characters of a long message that are kept at its beginning and its end.


class RequestError(ValueError):
  """A request that cannot be answered.

  The message is one sentence without paths of the server. A long value in it, such as a video in a
  data URL, is shortened. `status` is the HTTP status, `code` a word for programs, `parameter` the
  field that is wrong.
  """

  def __init__(
    self, message: str, *, status: int = 400, code: str = "invalid_value", parameter: str = ""
  ):
    if len(message) > 2 * _EACH_END:
      message = f"{message[:_EACH_END]} … {message[-_EACH_END:]}"
    super().__init__(message)
    self.status = status
    self.code = code
    self.parameter = parameter


@dataclasses.dataclass(frozen=True)
class FrameSettings:
  """Which frames of a video are read.

  None leaves it to the checkpoint. `fps` and `frames` together mean: at this rate, and at most so
  many.
  """

  fps: float | None = None
  frames: int | None = None
  start: float = 0.0  # Seconds of the file.
  end: float | None = None  # None: to the end of the file.


@dataclasses.dataclass(frozen=True)
class Medium:
  """A video or a picture on this machine.

  A video is one file, or several pictures of which it consists, in order.
  """

  kind: str  # VIDEO or IMAGE
  paths: tuple[str, ...]
  frame_settings: FrameSettings = FrameSettings()
  label: str = "The medium"  # What errors call it.
  is_lasting: bool = True  # Whether its paths stay; others are not kept in --encode-cache.


@dataclasses.dataclass(frozen=True)
class ChatMessage:
  """One message; `parts` are texts and media in order."""

  role: str  # One of ROLES.
  parts: tuple[str | Medium, ...]


@dataclasses.dataclass(frozen=True)
class AnswerSettings:
  """How an answer is generated; None leaves it to the checkpoint's config.infer."""

  max_new_tokens: int | None = None
  temperature: float | None = None  # 0 is greedy.
  top_p: float | None = None
  top_k: int | None = None
  min_p: float | None = None
  repetition_penalty: float | None = None
  stop_strings: tuple[str, ...] = ()  # An answer ends before the first of these.
  seed: int = 0
  answers: int = 1  # Of one prompt, which is read once.


@dataclasses.dataclass(frozen=True)
class AnswerRequest:
  """A conversation up to the question, and how to answer it.

  `selector` and `dropout` replace those of the checkpoint (LoadedModel.with_selector, adjusted).
  """

  messages: tuple[ChatMessage, ...]
  settings: AnswerSettings = AnswerSettings()
  selector: str = ""
  dropout: str = ""


@dataclasses.dataclass(frozen=True)
class AnswerPiece:
  """The next piece of the text of one answer.

  The last piece of each answer has a finish reason, and its text may be empty.
  """

  index: int  # Of the answer, from 0 to settings.answers - 1.
  text: str
  finish_reason: str = ""  # STOP or LENGTH.


@dataclasses.dataclass(frozen=True)
class EffectiveVideo:
  """What the model saw of a video."""

  frames: int  # Frames shown to the model, in groups.
  candidates: int  # Frames read, of which a selector chooses.
  fps: float  # Frames read a second over start..end.
  start: float  # Seconds of the file.
  end: float
  duration: float  # Seconds of the whole file.
  times: tuple[float, ...]  # Seconds in the file of the frames shown.
  visual_tokens: int
  cached: bool  # Whether its visual tokens were encoded before.


@dataclasses.dataclass(frozen=True)
class Usage:
  """What an answer took.

  `seconds` has the keys queue (waiting), read (opening and decoding media), encode, prefill and
  decode; those of a batch count for each of its requests.
  """

  prompt_tokens: int  # Visual tokens included.
  visual_tokens: int
  answer_tokens: int  # Of all answers together.
  videos: tuple[EffectiveVideo, ...]
  seconds: Mapping[str, float]
