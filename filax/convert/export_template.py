# SPDX-License-Identifier: Apache-2.0
"""Chat templates of exported folders, for the prompts of `filax chat`."""

from collections.abc import Mapping
import itertools
from typing import Any

from data_pipelines.text.chat_template import ChatTemplate, UnwritableConversation, without_clock

TURN_START = "<|im_start|>"  # Without it ChatML cannot be written.
_BRIEF = (
  "{% for message in messages %}{% if message['role'] != 'assistant' %}<|im_start|>{% endif %}"
  "{{ message['content'].strip('\\n') }}<|im_end|>{% endfor %}"
)
_TALK = (  # Written by two templates in the same way, if these are the same.
  dict(role="system", content="Be brief."),
  dict(role="user", content=" What is it?\n"),
  dict(role="assistant", content="A dog."),
  dict(role="user", content="Is it large?"),
)


def chatml(config: Mapping[str, Any]) -> str:
  """ChatML with pictures before the text and the trained system turn."""
  system = config.get("data", {}).get("system", "")
  turn = f"<|im_start|>system\n{{{{ {system!r} }}}}<|im_end|>\n" if system else ""
  return (
    "{% if messages and messages[0]['role'] != 'system' %}" + turn + "{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] in ('image', 'video') %}"
    "<{{ part['type'] }}>\n{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
  )


def own_template(config: Mapping[str, Any], chat: ChatTemplate) -> str:
  """The tokenizer's own chat template, with the trained system turn.

  It has no clock, as in FiLax: that of Llama 3.2 would write the date of today.
  """
  return without_clock(_system_turn(config) + chat.source)


def language_template(
  config: Mapping[str, Any], chat: ChatTemplate | None, controls: Mapping[str, int]
) -> str:
  """The chat template of a language model alone.

  The tokenizer's own is kept if it writes the same prompts. "" if there is none, and the control
  tokens of ChatML are missing.
  """
  kind = config.get("data", {}).get("template", "chatml")
  if kind == "chat" and chat is not None:
    return own_template(config, chat)
  if TURN_START not in controls or kind == "plain":
    return "" if chat is None else without_clock(chat.source)
  if kind == "brief":
    return _system_turn(config) + _BRIEF
  ours = chatml(config)
  if chat is not None and _write_the_same(chat, ChatTemplate(ours, chat.names)):
    return without_clock(chat.source)
  return ours


def _system_turn(config: Mapping[str, Any]) -> str:
  """The beginning of a template that writes the trained system turn."""
  system = config.get("data", {}).get("system", "")
  if not system:
    return ""
  return (
    "{%- if messages and messages[0]['role'] != 'system' -%}"
    f"{{%- set messages = [dict(role='system', content={system!r})] + messages -%}}"
    "{%- endif -%}"
  )


def _write_the_same(chat: ChatTemplate, other: ChatTemplate) -> bool:
  """Whether two templates write the same text.

  They are asked for talks with and without a system turn.
  """
  try:
    for first, last in itertools.product((0, 1), (2, 4)):
      talk = _TALK[first:last]
      if chat.prompt(talk) != other.prompt(talk):
        return False
  except UnwritableConversation:
    return False
  return True
