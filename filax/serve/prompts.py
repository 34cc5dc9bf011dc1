# SPDX-License-Identifier: Apache-2.0
"""Conversations of requests, as the turns of prompts."""

from collections.abc import Sequence

from data_pipelines.sample import Turn
from filax.serve.requests import ROLES, ChatMessage, Medium, RequestError


def conversation_turns(messages: Sequence[ChatMessage]) -> tuple[Turn, ...]:
  """The turns of a conversation; media are numbered in their order.

  A medium stands on lines of its own, as in training: "<video>\\nWhat happens?". Raises
  RequestError unless the conversation ends with a question.
  """
  if not messages or messages[-1].role != "user":
    raise RequestError(
      "The last message must be the user's: it is the question.", parameter="messages"
    )
  turns = []
  number = 0
  for message in messages:
    if message.role not in ROLES:
      raise RequestError(
        f"role={message.role!r} is unknown. Set it to one of {', '.join(ROLES)}.",
        parameter="messages",
      )
    parts: list[str | int] = []
    for part in message.parts:
      after_medium = bool(parts) and isinstance(parts[-1], int)
      if isinstance(part, Medium):
        if after_medium:
          parts.append("\n")
        parts.append(number)
        number += 1
      elif after_medium and not part.startswith("\n"):
        parts.append("\n" + part)
      else:
        parts.append(part)
    turns.append(Turn(message.role, tuple(parts)))
  return tuple(turns)


def request_media(messages: Sequence[ChatMessage]) -> list[Medium]:
  """The media of a conversation in order."""
  media: list[Medium] = []
  for message in messages:
    media.extend(part for part in message.parts if isinstance(part, Medium))
  return media
