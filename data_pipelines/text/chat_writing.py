# SPDX-License-Identifier: Apache-2.0
"""Writes conversations by the tokenizer's own chat template.

The template's text becomes control tokens and words; the words of a message are ordinary text, and
its visuals stand where the message shows them.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import re
from typing import Any, Protocol

from data_pipelines.sample import Turn
from data_pipelines.text.chat_template import ChatTemplate, Message
from data_pipelines.text.tokenizer import Tokenizer

_VISUAL = "\ue002"  # In place of a visual while the template is verified.


class TokenWriter(Protocol):
  """What a conversation is written to (data_pipelines.text.templates)."""

  tokenizer: Tokenizer

  def add_control(self, name: str, label: bool = False): ...

  def add_text(
    self, head: str, body: str = "", head_label: bool = False, body_label: bool = False
  ): ...

  def add_visual(self, size: int): ...


def write_turns(writer: TokenWriter, turns: Sequence[Turn], visuals: Sequence[Any]) -> None:
  """Writes all turns; the answers count in the loss.

  The words of an answer and the token that ends it count. Raises ValueError for a tokenizer
  without a chat template, or one that cannot write these turns.
  """
  template = _template_of(writer.tokenizer)
  turns = _trimmed_turns(turns, template)
  text = _WaitingText(writer)
  ends_answer = False
  for piece in template.pieces(_messages(turns)):
    if isinstance(piece, int):
      text.add_turn(turns[piece], visuals)
      ends_answer = turns[piece].role == "assistant"
      continue
    for is_control, part in _split_controls(writer.tokenizer, piece):
      if not is_control:
        text.head_or_tail(part)
        continue
      text.flush()
      writer.add_control(part, ends_answer)
      ends_answer = False
  text.flush()


def open_answer(writer: TokenWriter, turns: Sequence[Turn], answer_start: str) -> None:
  """Opens the assistant's turn and writes the answer's first words."""
  template = _template_of(writer.tokenizer)
  opening = template.opening(_messages(_trimmed_turns(turns, template)))
  head = ""
  for is_control, part in _split_controls(writer.tokenizer, opening):
    if is_control:
      writer.add_text(head)
      writer.add_control(part)
      head = ""
    else:
      head += part
  writer.add_text(head + answer_start)


@dataclasses.dataclass
class _WaitingText:
  """Ordinary text that waits to be encoded in one call.

  It is encoded once a control token or a visual follows.
  """

  writer: TokenWriter
  head: str = ""  # The template's.
  body: str = ""  # A message's, with what the template writes after it.
  is_answer: bool = False

  def add_turn(self, turn: Turn, visuals: Sequence[Any]) -> None:
    """Adds the words and visuals of a message."""
    if self.body:
      self.flush()
    self.is_answer = turn.role == "assistant"
    for part in turn.parts:
      if isinstance(part, str):
        self.body += part
        continue
      self.flush()
      self.writer.add_visual(visuals[part].tokens)

  def head_or_tail(self, text: str) -> None:
    """Adds the template's text, before or after a message's."""
    if self.body:
      self.body += text
    else:
      self.head += text

  def flush(self) -> None:
    """Writes the text that waits."""
    if self.head or self.body:
      self.writer.add_text(self.head, self.body, False, self.is_answer)
    self.head = ""
    self.body = ""


def _template_of(tokenizer: Tokenizer) -> ChatTemplate:
  if tokenizer.chat is None:
    raise ValueError(
      f"config.data.template=chat needs a chat template, but beside {tokenizer.path} there is "
      "neither a chat_template.jinja nor a tokenizer_config.json with one. Copy it there, or set "
      "config.data.template to chatml."
    )
  return tokenizer.chat


def _messages(turns: Sequence[Turn]) -> list[Message]:
  """The turns as a template reads them.

  A mark stands for every visual.
  """
  messages: list[Message] = []
  for turn in turns:
    words = [part if isinstance(part, str) else _VISUAL for part in turn.parts]
    messages.append(dict(role=turn.role, content="".join(words)))
  return messages


def _trimmed_turns(turns: Sequence[Turn], template: ChatTemplate) -> Sequence[Turn]:
  """The turns without the spaces that the template cuts off."""
  if template.keeps_spaces:
    return turns
  trimmed = []
  for turn in turns:
    parts = list(turn.parts)
    if parts and isinstance(parts[0], str):
      parts[0] = parts[0].lstrip()
    if parts and isinstance(parts[-1], str):
      parts[-1] = parts[-1].rstrip()
    trimmed.append(dataclasses.replace(turn, parts=tuple(parts)))
  return trimmed


def _split_controls(tokenizer: Tokenizer, text: str) -> Iterator[tuple[bool, str]]:
  """(whether it is a control token's name, part) of the template's text."""
  names = sorted(tokenizer.controls, key=len, reverse=True)
  if not names:
    yield False, text
    return
  pattern = "|".join(map(re.escape, names))
  for number, part in enumerate(re.split(f"({pattern})", text)):
    if part:
      yield number % 2 == 1, part
