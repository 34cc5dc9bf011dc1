# SPDX-License-Identifier: Apache-2.0
"""Replies in the form of OpenAI's API."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import secrets
import time
from typing import Any

from filax.serve.requests import AnswerPiece, RequestError, Usage
from filax.serve.uploads import StoredFile

_LONGEST_MESSAGE = 500  # Letters; a message may quote what the client sent.
_ERROR_TYPES = {
  401: "authentication_error",
  403: "permission_error",
  429: "rate_limit_error",
}


class ChatReply:
  """The reply to a chat request: whole, or in chunks."""

  def __init__(self, model: str, warnings: Sequence[str] = ()):
    self._id = f"chatcmpl-{secrets.token_hex(12)}"
    self._created = int(time.time())
    self._model = model
    self._warnings = tuple(warnings)

  def whole_reply(self, pieces: Sequence[AnswerPiece], usage: Usage) -> dict[str, Any]:
    """The reply to a request without `stream`."""
    texts: dict[int, list[str]] = {}
    reasons: dict[int, str] = {}
    for piece in pieces:
      texts.setdefault(piece.index, []).append(piece.text)
      reasons[piece.index] = piece.finish_reason or reasons.get(piece.index, "")
    choices = []
    for index in sorted(texts):
      message = dict(role="assistant", content="".join(texts[index]), refusal=None)
      choices.append(
        dict(index=index, message=message, logprobs=None, finish_reason=reasons[index])
      )
    return self._object("chat.completion", choices) | dict(usage=usage_fields(usage))

  def begin_chunk(self, index: int) -> dict[str, Any]:
    """The first chunk of an answer, which has its role."""
    return self._chunk(index, dict(role="assistant", content=""), None)

  def piece_chunk(self, piece: AnswerPiece) -> dict[str, Any]:
    """The chunk of a piece of text."""
    return self._chunk(piece.index, dict(content=piece.text), piece.finish_reason or None)

  def usage_chunk(self, usage: Usage) -> dict[str, Any]:
    """The last chunk, for `stream_options: {"include_usage": true}`."""
    return self._object("chat.completion.chunk", []) | dict(usage=usage_fields(usage))

  def _chunk(self, index: int, delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    choice = dict(index=index, delta=delta, logprobs=None, finish_reason=reason)
    return self._object("chat.completion.chunk", [choice])

  def _object(self, kind: str, choices: list) -> dict[str, Any]:
    fields = dict(
      id=self._id, object=kind, created=self._created, model=self._model, choices=choices
    )
    if self._warnings:
      fields["warnings"] = list(self._warnings)
    return fields


def usage_fields(usage: Usage) -> dict[str, Any]:
  """What an answer took, with OpenAI's names where it has some."""
  return dict(
    prompt_tokens=usage.prompt_tokens,
    completion_tokens=usage.answer_tokens,
    total_tokens=usage.prompt_tokens + usage.answer_tokens,
    visual_tokens=usage.visual_tokens,
    videos=[dataclasses.asdict(video) for video in usage.videos],
    seconds={name: round(value, 4) for name, value in usage.seconds.items()},
  )


def file_fields(stored: StoredFile, seconds: float) -> dict[str, Any]:
  """An uploaded file; `seconds` is its life time."""
  return dict(
    id=stored.id,
    object="file",
    bytes=stored.bytes,
    created_at=int(stored.created),
    expires_at=int(stored.created + seconds),
    filename=stored.name,
    purpose=stored.purpose,
    status="processed",
  )


def error_fields(error: RequestError) -> dict[str, Any]:
  """An error in OpenAI's form."""
  kind = "server_error" if error.status >= 500 else "invalid_request_error"
  message = str(error)
  if len(message) > _LONGEST_MESSAGE:
    message = f"{message[:_LONGEST_MESSAGE]} …"
  return dict(
    error=dict(
      message=message,
      type=_ERROR_TYPES.get(error.status, kind),
      param=error.parameter or None,
      code=error.code,
    )
  )


def error_bytes(error: RequestError) -> bytes:
  """An error as JSON."""
  return json.dumps(error_fields(error)).encode()


def event(fields: Mapping[str, Any] | str) -> bytes:
  """A server-sent event."""
  data = fields if isinstance(fields, str) else json.dumps(fields)
  return f"data: {data}\n\n".encode()
