# SPDX-License-Identifier: Apache-2.0
"""Encodes conversations as token ids and labels, by templates.

  chatml  <|im_start|>system\\n...<|im_end|>\\n<|im_start|>user\\n<visual>\\nQuestion<|im_end|>\\n
          <|im_start|>assistant\\nAnswer<|im_end|>\\n
  brief   <|im_start|><visual>Question<|im_end|>Answer<|im_end|>
          For tiny models: only two tokens stand between a question and its answer, and not six.
  plain   <visual>Answer\\n
          The text of the user is left out (stage 1: captions).
  chat    The tokenizer's own chat template (data_pipelines.text.chat_template).

Control tokens come from the tokenizer by their name. The ordinary text between two control tokens,
or between a control token and a visual, is encoded in one call.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import dataclasses

import numpy as np

from data_pipelines.sample import IMAGE, VIDEO, Sample, Turn
from data_pipelines.text import chat_writing
from data_pipelines.text.chat_template import UnwritableConversation
from data_pipelines.text.time_prompts import TIME_PROMPTS, VisualText, timed
from data_pipelines.text.tokenizers import Tokenizer

START = "<|im_start|>"
END = "<|im_end|>"
LABELS = ("llava", "answer_only")
UNWRITABLE = -1  # In place of the number of tokens of a conversation that no template can write.
RULES = 6  # The version of templates and of reading records: cached lengths are valid for one.


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A conversation as token ids."""

  tokens: np.ndarray  # i32 [L]; the pad id at the positions of visual tokens.
  labels: np.ndarray  # bool [L]: True for tokens that are learned (not shifted).
  spans: tuple[tuple[int, int], ...]  # Start and stop of every visual, in order.
  answers: np.ndarray  # bool [L]: True for the words of an answer.


def encode_conversation(
  sample: Sample,
  tokenizer: Tokenizer,
  *,
  template: str = "chatml",
  system: str = "",
  labels: str = "llava",
  time_prompt: str = "none",
  visuals: Sequence[VisualText] = (),
) -> Encoded:
  """Encodes a conversation for training.

  system: the system turn, unless the sample has its own; "" means none. visuals[n] describes the
  sample's n-th timeline.

  labels: which tokens are learned with template chatml. "answer_only": the tokens of an answer and
  its end token. "llava", as in LLaVA's Qwen templates: every token of an assistant's turn,
  including its header and the newline after it, and also every start, end and newline token of
  other turns, such as the newline after a visual. With the other templates, both learn the answers
  and their end tokens.

  Raises ValueError for an unknown template, labels or time prompt, and for a chat template that
  cannot write the conversation.
  """
  if labels not in LABELS:
    raise ValueError(f"config.data.labels={labels!r} is unknown. Set it to {' or '.join(LABELS)}.")
  write = _template(template)
  turns = _written_turns(sample.turns, system, time_prompt, visuals)
  writer = _Writer(tokenizer, labels)
  with _naming(sample):
    write(writer, turns, visuals)
  return writer.encoded(marks=template == "chatml" and labels == "llava")


@contextlib.contextmanager
def _naming(sample: Sample) -> Iterator[None]:
  """Adds the sample's origin to an UnwritableConversation."""
  try:
    yield
  except UnwritableConversation as error:
    if not sample.origin:
      raise
    raise UnwritableConversation(f"{sample.origin}: {error}") from error


def count_tokens(
  samples: Iterable[tuple[Sample, Sequence[VisualText]]],
  tokenizer: Tokenizer,
  *,
  template: str = "chatml",
  system: str = "",
  time_prompt: str = "none",
) -> list[int]:
  """The numbers of tokens that `encode_conversation` would give.

  samples: each with its visuals. The tokens of all texts are counted in one batch. UNWRITABLE
  stands for a conversation that the chat template cannot write.
  """
  write = _template(template)
  collector = _TextCollector(tokenizer)
  sizes = []  # The tokens of each sample that are not text.
  ends = []  # The number of texts up to and including each sample.
  for sample, visuals in samples:
    collector.size = 0
    begin = len(collector.texts)
    turns = _written_turns(sample.turns, system, time_prompt, visuals)
    try:
      write(collector, turns, visuals)
    except UnwritableConversation:
      del collector.texts[begin:]
      collector.size = UNWRITABLE
    sizes.append(collector.size)
    ends.append(len(collector.texts))
  counts = tokenizer.count_texts(collector.texts)
  totals = []
  first = 0
  for size, end in zip(sizes, ends, strict=True):
    totals.append(size + sum(counts[first:end]))
    first = end
  return totals


def encode_prompt(
  turns: Sequence[Turn],
  tokenizer: Tokenizer,
  *,
  template: str = "chatml",
  system: str = "",
  time_prompt: str = "none",
  visuals: Sequence[VisualText] = (),
  answer_start: str = "",
) -> Encoded:
  """Encodes a conversation up to the assistant's answer, without labels.

  answer_start: the first words of the answer, which the model continues.
  """
  write = _template(template)
  turns = _written_turns(turns, system, time_prompt, visuals)
  writer = _Writer(tokenizer, "answer_only")
  write(writer, turns, visuals)
  if template == "chatml":
    writer.add_control(START)
    writer.add_text("assistant\n" + answer_start)
  elif template == "chat":
    chat_writing.open_answer(writer, turns, answer_start)
  elif answer_start:
    writer.add_text(answer_start)
  encoded = writer.encoded(marks=False)
  return dataclasses.replace(encoded, labels=np.zeros_like(encoded.labels))


def question(text: str, media: int = 1) -> tuple[Turn, ...]:
  """The turns of one question about `media` timelines.

  The timelines are shown before the question, each on its own line. Raises TypeError for another
  question than a text.
  """
  if not isinstance(text, str):
    raise TypeError(f"A question is a text, and not {type(text).__name__}.")
  parts: list[str | int] = []
  for number in range(media):
    if number:
      parts.append("\n")
    parts.append(number)
  if parts:
    text = "\n" + text
  return (Turn("user", (*parts, text)),)


def group_times(times: np.ndarray, frames_per_group: int) -> np.ndarray:
  """The time of every group's middle frame, f64 [T/K]."""
  return times[frames_per_group // 2 :: frames_per_group]


def _written_turns(
  turns: Sequence[Turn], system: str, time_prompt: str, visuals: Sequence[VisualText]
) -> list[Turn]:
  """The turns with system turn, newlines and time sentences."""
  if time_prompt not in TIME_PROMPTS:
    raise ValueError(
      f"config.data.time_prompt={time_prompt!r} is unknown. Set it to one of "
      f"{', '.join(TIME_PROMPTS)}."
    )
  written = []
  for turn in turns:
    parts = timed(_arranged(turn.parts), time_prompt, visuals)
    written.append(turn if parts is turn.parts else Turn(turn.role, parts))
  has_system = bool(written) and written[0].role == "system"
  if system and not has_system:
    written.insert(0, Turn("system", (system,)))
  return written


def _arranged(parts: tuple[str | int, ...]) -> tuple[str | int, ...]:
  """Moves the only visual of a turn to the front.

  A newline and the stripped text follow it. This is LLaVA's rule, to the character. These turns do
  not change: turns that begin with their visual (with or without a newline), turns with several
  visuals, and turns whose text contains a media tag.
  """
  visuals = [part for part in parts if not isinstance(part, str)]
  if not visuals or parts[0] == visuals[0]:
    return parts
  text = "".join(part for part in parts if isinstance(part, str))
  leading = next((part for part in parts if part != ""), "")
  if len(visuals) != 1 or leading == visuals[0] or IMAGE in text or VIDEO in text:
    return parts
  rest = text.strip()
  if not rest:
    return (visuals[0],)
  return (visuals[0], "\n" + rest)


def _chatml(
  writer: "_Writer | _TextCollector", turns: Sequence[Turn], visuals: Sequence[VisualText]
):
  for turn in turns:
    is_answer = turn.role == "assistant"
    header_label = is_answer and writer.labels == "llava"
    writer.add_control(START, header_label)
    head = f"{turn.role}\n"
    text = ""
    for part in turn.parts:
      if isinstance(part, str):
        text += part
        continue
      writer.add_text(head, text, header_label, is_answer)
      writer.add_visual(visuals[part].tokens)
      head = ""
      text = ""
    writer.add_text(head, text, header_label, is_answer)
    writer.add_control(END, is_answer)
    writer.add_text("\n", "", header_label)


def _brief(
  writer: "_Writer | _TextCollector", turns: Sequence[Turn], visuals: Sequence[VisualText]
):
  for turn in turns:
    is_answer = turn.role == "assistant"
    if not is_answer:
      writer.add_control(START)
    for part in turn.parts:
      if not isinstance(part, str):
        writer.add_visual(visuals[part].tokens)
    writer.add_text("", turn.text.strip("\n"), False, is_answer)
    writer.add_control(END, is_answer)


def _plain(
  writer: "_Writer | _TextCollector", turns: Sequence[Turn], visuals: Sequence[VisualText]
):
  for turn in turns:
    for part in turn.parts:
      if not isinstance(part, str):
        writer.add_visual(visuals[part].tokens)
    if turn.role == "assistant":
      writer.add_text("", turn.text + "\n", False, True)


TEMPLATES = {
  "chatml": _chatml,
  "brief": _brief,
  "plain": _plain,
  "chat": chat_writing.write_turns,
}


def _template(name: str) -> Callable:
  if name not in TEMPLATES:
    raise ValueError(
      f"config.data.template={name!r} is unknown. Set it to one of {', '.join(TEMPLATES)}."
    )
  return TEMPLATES[name]


class _Writer:
  """Collects tokens with their labels, and the spans of the visuals."""

  def __init__(self, tokenizer: Tokenizer, labels: str):
    self.tokenizer = tokenizer
    self.labels = labels
    self._size = 0  # The number of tokens so far.
    self._spans: list[tuple[int, int]] = []
    # One array per run of tokens:
    self._tokens: list[np.ndarray] = [np.zeros(0, np.int32)]
    self._labels: list[np.ndarray] = [np.zeros(0, bool)]
    self._answers: list[np.ndarray] = [np.zeros(0, bool)]
    # Whether a token is text. (The pad id of visual tokens may be the id of an end token.)
    self._is_text: list[np.ndarray] = [np.zeros(0, bool)]

  def add_control(self, name: str, label: bool = False):
    self._add_run([self.tokenizer.special(name)], label, False)

  def add_text(self, head: str, body: str = "", head_label: bool = False, body_label: bool = False):
    """Adds head + body, encoded in one call.

    The body begins with the first token that differs from the tokens of the head alone.
    """
    ids = self.tokenizer.encode(head + body)
    cut = 0
    if head and body:
      cut = _common_length(ids, self.tokenizer.encode(head))
    elif head:
      cut = len(ids)
    self._add_run(ids[:cut], head_label, False)
    self._add_run(ids[cut:], body_label, body_label)

  def add_visual(self, size: int):
    self._spans.append((self._size, self._size + size))
    pads = np.full(size, self.tokenizer.pad_id)
    self._add_run(pads, False, False, is_text=False)

  def encoded(self, marks: bool) -> Encoded:
    """The conversation so far.

    marks: if True, every start, end and newline token is learned, in every turn (LLaVA's rule).
    """
    tokens = np.concatenate(self._tokens)
    labels = np.concatenate(self._labels)
    if marks:
      ids = [self.tokenizer.special(START), self.tokenizer.special(END)]
      newline = self.tokenizer.encode("\n")
      if len(newline) == 1:
        ids += newline
      labels |= np.isin(tokens, ids) & np.concatenate(self._is_text)
    return Encoded(tokens, labels, tuple(self._spans), np.concatenate(self._answers))

  def _add_run(
    self, ids: Sequence[int] | np.ndarray, label: bool, answer: bool, is_text: bool = True
  ):
    size = len(ids)
    if not size:
      return
    self._tokens.append(np.asarray(ids, np.int32))
    self._labels.append(np.full(size, label))
    self._answers.append(np.full(size, answer))
    self._is_text.append(np.full(size, is_text))
    self._size += size


class _TextCollector:
  """Collects the texts that a _Writer would encode.

  `size` counts the other tokens.
  """

  labels = "answer_only"  # Labels do not matter for the count.

  def __init__(self, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    self.size = 0
    self.texts: list[str] = []

  def add_control(self, name: str, label: bool = False):
    del label
    self.tokenizer.special(name)  # Raises for an unknown name.
    self.size += 1

  def add_text(self, head: str, body: str = "", head_label: bool = False, body_label: bool = False):
    del head_label, body_label
    self.texts.append(head + body)

  def add_visual(self, size: int):
    self.size += size


def _common_length(ids: Sequence[int], others: Sequence[int]) -> int:
  """The length of the common prefix."""
  length = 0
  for id, other in zip(ids, others, strict=False):
    if id != other:
      break
    length += 1
  return length
