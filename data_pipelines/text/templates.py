# SPDX-License-Identifier: Apache-2.0
"""Conversations to token ids: templates, the labels of training, and the sentences about time.

  chatml  <|im_start|>system\\n...<|im_end|>\\n<|im_start|>user\\n<visual>\\nQuestion<|im_end|>\\n
          <|im_start|>assistant\\nAnswer<|im_end|>\\n
  brief   <|im_start|><visual>Question<|im_end|>Answer<|im_end|>          for tiny models: from a
          question's words to its answer are two tokens, not six
  plain   <visual>Answer\\n          what the user says is left out (stage 1: captions)

Control tokens come from the tokenizer by name; ordinary text between two of them, or between one
and a visual, is encoded in one call.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np

from data_pipelines.sample import IMAGE, VIDEO, Sample, Turn
from data_pipelines.text.time_prompts import TIME_PROMPTS, Visual, timed
from data_pipelines.text.tokenizers import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"
LABELS = ("llava", "answer_only")
RULES = 2  # Of how conversations are written. Lengths of texts are remembered for one set of rules.


@dataclasses.dataclass(frozen=True)
class Encoded:
  """tokens i32 [L] (a visual's positions hold the pad id); labels bool [L], True where the token
  itself is learnt; spans: start and stop of every visual, in the order they are shown; answers bool
  [L], True for the words of an answer."""

  tokens: np.ndarray
  labels: np.ndarray
  spans: tuple[tuple[int, int], ...]
  answers: np.ndarray


def encode(
  sample: Sample,
  tokenizer: Tokenizer,
  *,
  template: str = "chatml",
  system: str = "",
  labels: str = "llava",
  time_prompt: str = "none",
  visuals: Sequence[Visual] = (),
) -> Encoded:
  """A whole conversation for training; visuals[n] is what the sample's n-th timeline becomes.

  labels "llava", as LLaVA's Qwen templates do it: every token of an assistant's turn, its header
  and the newline after it included, and besides every start, end and newline token of the other
  turns, such as the newline after a visual. "answer_only": an answer's tokens and its end.
  Templates brief and plain learn the answers and what ends them either way. A sample's own system
  turn replaces `system`; "" is no system turn. Raises ValueError for an unknown name.
  """
  if labels not in LABELS:
    raise ValueError(f"config.data.labels={labels!r} is unknown. Set it to {' or '.join(LABELS)}.")
  writer = _Writer(tokenizer, labels)
  _template(template)(writer, _turns(sample.turns, system, time_prompt, visuals), visuals)
  return writer.done(marks=template == "chatml" and labels == "llava")


def prompt(
  turns: Sequence[Turn],
  tokenizer: Tokenizer,
  *,
  template: str = "chatml",
  system: str = "",
  time_prompt: str = "none",
  visuals: Sequence[Visual] = (),
) -> Encoded:
  """A conversation up to where the assistant's answer begins, without labels."""
  writer = _Writer(tokenizer, "answer_only")
  _template(template)(writer, _turns(turns, system, time_prompt, visuals), visuals)
  if template == "chatml":
    writer.control(START)
    writer.text("assistant\n")
  encoded = writer.done(marks=False)
  return dataclasses.replace(encoded, labels=np.zeros_like(encoded.labels))


def question(text: str, media: int = 1) -> tuple[Turn, ...]:
  """The turns of one question about `media` timelines, shown before it, each on its own line."""
  shown = [part for n in range(media) for part in (n, "\n")]
  return (Turn("user", (*shown[:-1], "\n" + text) if media else (text,)),)


def group_times(times: np.ndarray, frames_per_group: int) -> np.ndarray:
  """The middle frame's time of every group: f64 [T] -> [T / K]."""
  return times[frames_per_group // 2 :: frames_per_group]


def _turns(turns, system: str, time_prompt: str, visuals) -> list[Turn]:
  """The turns as they are written: with the system turn, the newlines and the sentences on time."""
  if time_prompt not in TIME_PROMPTS:
    raise ValueError(
      f"config.data.time_prompt={time_prompt!r} is unknown. Set it to one of "
      f"{', '.join(TIME_PROMPTS)}."
    )
  turns = [
    dataclasses.replace(t, parts=timed(_arranged(t.parts), time_prompt, visuals)) for t in turns
  ]
  own = bool(turns) and turns[0].role == "system"
  return turns if own or not system else [Turn("system", (system,)), *turns]


def _arranged(parts: tuple[str | int, ...]) -> tuple[str | int, ...]:
  """Moves the only visual of a turn to the front, a newline after it; the rest is stripped.

  LLaVA's rule, to the character: a visual that leads stays as it is, with or without a newline, and
  so do several, and one beside text that reads like a place for another.
  """
  visuals = [part for part in parts if not isinstance(part, str)]
  text = "".join(part for part in parts if isinstance(part, str))
  leading = next((part for part in parts if part != ""), "")
  if len(visuals) != 1 or leading == visuals[0] or IMAGE in text or VIDEO in text:
    return parts
  rest = text.strip()
  return (visuals[0], "\n" + rest) if rest else (visuals[0],)


def _chatml(writer: "_Writer", turns: Sequence[Turn], visuals: Sequence[Visual]):
  for turn in turns:
    answers = turn.role == "assistant"
    whole = answers and writer.labels == "llava"
    writer.control(START, whole)
    head, text = f"{turn.role}\n", ""
    for part in turn.parts:
      if isinstance(part, str):
        text += part
        continue
      writer.text(head, text, whole, answers)
      writer.visual(visuals[part].tokens)
      head, text = "", ""
    writer.text(head, text, whole, answers)
    writer.control(END, answers)
    writer.text("\n", "", whole)


def _brief(writer: "_Writer", turns: Sequence[Turn], visuals: Sequence[Visual]):
  for turn in turns:
    answers = turn.role == "assistant"
    if not answers:
      writer.control(START)
    for part in turn.parts:
      if not isinstance(part, str):
        writer.visual(visuals[part].tokens)
    writer.text("", turn.text.strip("\n"), False, answers)
    writer.control(END, answers)


def _plain(writer: "_Writer", turns: Sequence[Turn], visuals: Sequence[Visual]):
  for turn in turns:
    for part in turn.parts:
      if not isinstance(part, str):
        writer.visual(visuals[part].tokens)
    if turn.role == "assistant":
      writer.text("", turn.text + "\n", False, True)


TEMPLATES = {"chatml": _chatml, "brief": _brief, "plain": _plain}


def _template(name: str) -> Callable:
  if name not in TEMPLATES:
    raise ValueError(
      f"config.data.template={name!r} is unknown. Set it to one of {', '.join(TEMPLATES)}."
    )
  return TEMPLATES[name]


class _Writer:
  """Collects tokens with their labels, and the spans of the visuals."""

  def __init__(self, tokenizer: Tokenizer, labels: str):
    self.tokenizer, self.labels = tokenizer, labels
    self._size, self._spans = 0, []
    self._tokens, self._flags, self._text = [], [], []  # Runs: ids, labels, whether it is text.
    self._answers = []

  def control(self, name: str, label: bool = False):
    self._add([self.tokenizer.special(name)], [label], [False])

  def text(self, head: str, body: str = "", head_label: bool = False, body_label: bool = False):
    """head + body in one call. Body starts where the tokens part from those of the head alone."""
    ids = self.tokenizer.encode(head + body)
    cut = 0
    if head and body:
      same = [a == b for a, b in zip(ids, self.tokenizer.encode(head), strict=False)]
      cut = [*same, False].index(False)
    elif head:
      cut = len(ids)
    rest = [body_label] * (len(ids) - cut)
    self._add(ids, [head_label] * cut + rest, [False] * cut + rest)

  def visual(self, size: int):
    self._spans.append((self._size, self._size + size))
    no = np.zeros(size, bool)
    self._add(np.full(size, self.tokenizer.pad_id), no, no, text=False)

  def done(self, marks: bool) -> Encoded:
    """`marks`: every start, end and newline token is learnt, wherever it stands (LLaVA's rule)."""
    join = lambda runs, kind: np.concatenate([np.asarray(run, kind) for run in [[], *runs]])
    tokens, flags = join(self._tokens, np.int32), join(self._flags, bool)
    if marks:
      newline = self.tokenizer.encode("\n")
      ids = [self.tokenizer.special(name) for name in (START, END)]
      ids += newline if len(newline) == 1 else []
      flags |= np.isin(tokens, ids) & join(self._text, bool)
    return Encoded(tokens, flags, tuple(self._spans), join(self._answers, bool))

  def _add(self, ids, labels, answers, text: bool = True):
    self._tokens.append(ids)
    self._answers.append(answers)
    self._flags.append(labels)
    self._text.append(np.full(len(ids), text))  # The pad of a visual may share an id with a mark.
    self._size += len(ids)
