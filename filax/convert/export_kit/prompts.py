# SPDX-License-Identifier: Apache-2.0
"""Time prompts, and prompts by the tokenizer's own chat template, for run_torch.py.

transformers renders a chat template with a mark in place of every message. What the template writes
itself may be control tokens; the words of the messages are ordinary text.
"""

import json
import re

SYSTEM = "\ue000"  # Marks, of private use: in no sensible template.
USER = "\ue001"
NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


def time_prompt(kind, duration, times, representative_times):
  """(text right after the video, text after the question)."""
  if kind == "fila":
    seconds = ", ".join(f"{time:.2f}" for time in representative_times)
    return "", (
      f" This video samples {len(representative_times)} frames of a {duration:.2f}-second video "
      f"at {seconds} seconds."
    )
  if kind not in ("llava", "vcf", "vcf_released"):
    return "", ""
  intro = f"\nThe video lasts for {duration:.2f} seconds, and {len(times)} frames are "
  intro += "uniformly sampled from it. "
  if kind == "llava":
    seconds = ",".join(f"{time:.2f}s" for time in times)
    intro += f"These frames are located at {seconds}."
    intro += "Please answer the following questions related to this video."
  return intro, ""


class Template:
  """The chat template of an exported folder, rendered by transformers."""

  def __init__(self, folder):
    import tokenizers
    import transformers

    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    names = {}
    for key in NAMES:
      value = config.get(key)
      text = value["content"] if isinstance(value, dict) else value
      if text:
        names[key] = text
    self.source = config["chat_template"]
    empty = tokenizers.Tokenizer(tokenizers.models.BPE())
    self.renderer = transformers.PreTrainedTokenizerFast(tokenizer_object=empty, **names)

  def render(self, messages, opened=False):
    """The written conversation; `opened` adds the beginning of an answer."""
    return self.renderer.apply_chat_template(
      messages, chat_template=self.source, tokenize=False, add_generation_prompt=opened
    )

  def keeps_spaces(self):
    """Whether words keep the spaces around them."""
    return " a " in self.render([dict(role="user", content=" a ")])


def chat_prompt_ids(tokenizer, settings, text):
  """(ids before the video, ids after it).

  text: the user's words after the video.
  """
  template = Template(tokenizer.folder)
  system = settings["data"]["system"]
  messages = [dict(role="system", content=SYSTEM)] if system else []
  messages.append(dict(role="user", content=USER))
  closed = template.render(messages)
  opened = template.render(messages, opened=True)
  expected = (int(bool(system)), 1)
  if (closed.count(SYSTEM), closed.count(USER)) != expected or not opened.startswith(closed):
    raise SystemExit(
      "run_torch.py cannot use this chat template, which does not write every message once. Ask "
      "with filax chat, or set data.template to chatml under fila_config in config.json."
    )
  if not template.keeps_spaces():
    text = text.rstrip()
    system = system.strip()
  head, tail = closed.split(USER)
  start, _, middle = head.rpartition(SYSTEM)
  controls = {tokenizer.control_name(id): id for id in settings["controls"]}
  before = piece_ids(tokenizer, controls, [(start, False), (system, True), (middle, False)])
  after = piece_ids(tokenizer, controls, [(text, True), (tail, False)])
  opening = opened.removeprefix(closed)
  return before, after + piece_ids(tokenizer, controls, [(opening, False)])


def piece_ids(tokenizer, controls, pieces):
  """The ids of (text, whether it is a message's words).

  Text between two control tokens is encoded in one call.
  """
  names = sorted(controls, key=len, reverse=True)
  pattern = "|".join(map(re.escape, names)) or "(?!)"
  ids = []
  waiting = ""
  for text, is_words in pieces:
    parts = [text] if is_words else re.split(f"({pattern})", text)
    for number, part in enumerate(parts):
      if number % 2:
        ids += [*tokenizer.text_ids(waiting), controls[part]]
        waiting = ""
      else:
        waiting += part
  return ids + tokenizer.text_ids(waiting)
