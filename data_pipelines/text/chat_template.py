# SPDX-License-Identifier: Apache-2.0
"""Chat templates of tokenizers: Jinja programs that write a conversation as text.

A template is untrusted: it runs in Jinja's sandbox, and only its own text can become control
tokens. To tell this text from the messages' words, the template is rendered with a mark in place of
every message; what lies between the marks is the template's. The words are put in afterwards, as
ordinary text.
"""

from collections.abc import Mapping, Sequence
import datetime
import functools
import hashlib
import json
import re
from typing import Any

from data_pipelines.text.end_tokens import token_text

MOST = 1_000_000  # Characters of a template.
_OPEN = "\ue000"  # A private-use character, which no sensible template contains.
_CLOSE = "\ue001"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_CHATML = re.compile(  # A question in ChatML, with or without a system turn.
  r"(?:<\|im_start\|>system\n(.*)<\|im_end\|>\n)?<\|im_start\|>user\n\?<\|im_end\|>\n?"
  r"(?:<\|im_start\|>assistant\n)?",
  re.DOTALL,
)

# What a template that asks for today's date gets: with today's, a run that is resumed would have
# other texts. Templates that have a date of their own use that.
DATE = datetime.datetime(2025, 1, 1)
_TESTS_DATE = re.compile(r"strftime_now\s+is\s+(not\s+)?defined")
_DATE_CALL = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_NO_CLOCK = "{%- set strftime_now = no_clock -%}"  # An undefined name.

Message = Mapping[str, str]  # role, content


class UnwritableConversation(ValueError):
  """A conversation that a chat template cannot write."""


class ChatTemplate:
  """A chat template, and the control tokens that it may use.

  names: such as bos_token and eos_token.
  """

  def __init__(self, source: str, names: Mapping[str, str]):
    if len(source) > MOST:
      raise ValueError(f"A chat template of {len(source):,} characters is not a chat template.")
    self.source = source
    self.names = dict(names)

  @functools.cached_property
  def template_digest(self) -> str:
    """sha256 of the template and the names."""
    content = json.dumps([self.source, sorted(self.names.items())])
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()

  def pieces(self, messages: Sequence[Message]) -> list[str | int]:
    """The written conversation: the template's text, and the numbers of messages.

    Raises UnwritableConversation if the template fails, leaves a message out, or changes its words.
    """
    return self._verified_pieces(messages, False)

  def opening(self, messages: Sequence[Message]) -> str:
    """What the template writes after the messages to open an answer."""
    closed = self._verified_pieces(messages, False)
    opened = self._verified_pieces(messages, True)
    before = _joined(closed, messages)
    after = _joined(opened, messages)
    if not after.startswith(before):
      raise ValueError(
        "The tokenizer's chat template writes the messages in another way before an answer, which "
        "is not implemented. Set config.data.template to chatml."
      )
    return after.removeprefix(before)

  def prompt(self, messages: Sequence[Message]) -> str:
    """The messages, and what opens an answer, as one text."""
    return self._render(messages, True)

  @functools.cached_property
  def keeps_spaces(self) -> bool:
    """Whether words keep the spaces around them.

    A template that cannot write a single question counts as one that does.
    """
    probe = [dict(role="user", content=" a ")]
    try:
      return " a " in self._render(probe, False)
    except UnwritableConversation:
      return True

  def own_system(self) -> str | None:
    """The system turn that a ChatML template writes before a question.

    "" if it writes none; None for a template that is not ChatML.
    """
    try:
      text = self.prompt([dict(role="user", content="?")])
    except ValueError:
      return None
    match = _CHATML.fullmatch(text)
    return None if match is None else match[1] or ""

  def writes_questions(self) -> bool:
    """Whether the template can write a question and open an answer."""
    try:
      self.opening([dict(role="user", content="?")])
    except ValueError:
      return False
    return True

  def _verified_pieces(self, messages: Sequence[Message], opened: bool) -> list[str | int]:
    marked = []
    for number, message in enumerate(messages):
      marked.append(dict(message, content=f"{_OPEN}{number}{_CLOSE}"))
    pieces: list[str | int] = []
    for number, part in enumerate(_MARK.split(self._render(marked, opened))):
      if number % 2:
        pieces.append(int(part))
      elif part:
        pieces.append(part)
    written = [piece for piece in pieces if isinstance(piece, int)]
    is_complete = sorted(written) == list(range(len(messages)))
    if not is_complete or self._render(messages, opened) != _joined(pieces, messages):
      raise UnwritableConversation(
        "The tokenizer's chat template changes the words of a message, or writes it more than "
        "once or not at all. Set config.data.template to chatml, or change the message."
      )
    return pieces

  def _render(self, messages: Sequence[Message], opened: bool) -> str:
    template = _compiled(self.source)
    try:
      return template.render(
        messages=messages,
        add_generation_prompt=opened,
        tools=None,
        documents=None,
        **self.names,
      )
    except Exception as error:  # A template may raise anything, also on purpose.
      reason = " ".join(str(error).split())[:300] or type(error).__name__
      raise UnwritableConversation(
        f"The tokenizer's chat template cannot write this conversation: {reason}. Set "
        "config.data.template to chatml, or change the conversation."
      ) from None


def _joined(pieces: Sequence[str | int], messages: Sequence[Message]) -> str:
  texts = [messages[piece]["content"] if isinstance(piece, int) else piece for piece in pieces]
  return "".join(texts)


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> Any:
  """The compiled template, which runs in a sandbox.

  It has the functions and blocks that transformers gives a template, but its clock stands still:
  the same conversation is written in the same way every day. Raises ValueError for a text that is
  not a template.
  """
  import jinja2
  from jinja2 import ext, sandbox

  from data_pipelines.text.generation_block import GenerationBlock

  def raise_exception(message: str):
    raise jinja2.TemplateError(message)

  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, ext.loopcontrols]
  )
  environment.filters["tojson"] = _to_json
  environment.globals["raise_exception"] = raise_exception
  if "strftime_now" in source and not _TESTS_DATE.search(source):
    environment.globals["strftime_now"] = DATE.strftime
  try:
    return environment.from_string(source)
  except jinja2.TemplateError as error:
    reason = " ".join(str(error).split())[:300]
    raise ValueError(
      f"The tokenizer's chat template cannot be compiled: {reason}. Mend it, or set "
      "config.data.template to chatml."
    ) from None


def without_clock(source: str) -> str:
  """The text of a template that writes FiLax's date everywhere.

  A template that asks whether there is a clock is told that there is none. Others get DATE.
  """
  if _TESTS_DATE.search(source):
    return _NO_CLOCK + source
  return _DATE_CALL.sub(lambda call: repr(DATE.strftime(call[2])), source)


def _to_json(
  value: Any,
  ensure_ascii: bool = False,
  indent: int | None = None,
  separators: tuple[str, str] | None = None,
  sort_keys: bool = False,
) -> str:
  """JSON with the settings of transformers.

  No others: `default` and `cls` would call what a template gives, outside the sandbox.
  """
  return json.dumps(
    value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
  )


def read_chat_template(config: Mapping[str, Any], source: str = "") -> ChatTemplate | None:
  """The template of a tokenizer_config.json; None without one.

  source: that of a chat_template.jinja beside it, which comes first.
  """
  template = source or config.get("chat_template")
  if isinstance(template, list):  # Several, by name.
    named = {entry.get("name"): entry.get("template") for entry in template}
    template = named.get("default")
  if not isinstance(template, str) or not template:
    return None
  names = {}
  for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
    text = token_text(config.get(key))
    if text is not None:
      names[key] = text
  return ChatTemplate(template, names)
