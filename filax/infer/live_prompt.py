# SPDX-License-Identifier: Apache-2.0
"""The prompt of a live session, in three parts: words before the video, its groups, the question.

Only the second part grows. The words before the video do not depend on it; the sentence about its
times, and a newline after the whole video, are a part of the question.
"""

from collections.abc import Sequence

import numpy as np

from data_pipelines.packing import visual_order
from data_pipelines.text import templates
from filax.infer import encode
from filax.infer.encoded_media import EncodedMedia
from filax.infer.loaded import LoadedModel
from filax.infer.prefix import IndexedTokens
from filax.spec import TEXT
from filax.spec.visual_order import NEWLINE

_LATE = 9_999_999.99  # Seconds whose text is as long as any, up to a third of a year.


class VideoPrompt:
  """The tokens of a prompt about any number of groups.

  `head`: the words before the video. `group_tokens`: places of a group, with its newlines.
  """

  def __init__(self, loaded: LoadedModel):
    self._loaded = loaded
    self._layout = loaded.model.layout()
    self._ends = self._layout.newline == "one_token"  # Whether a newline ends the whole video.
    self.group_tokens = len(self._groups(1))
    prompt, first = self._prompt("", self._late_times(1), _LATE)
    self.head = prompt.upto(first)

  def clips(self, groups: int) -> IndexedTokens:
    """The tokens of further groups.

    Their index points into a visual table that holds them alone.
    """
    pattern = self._groups(groups)
    newline = groups * self._layout.tokens_per_group
    index = visual_order.placed(pattern, 0, newline)
    return IndexedTokens(np.zeros(len(index), np.int32), index)

  def question_tokens(
    self, text: str, times: Sequence[np.ndarray], seconds: float
  ) -> IndexedTokens:
    """The tokens of a question after the groups.

    times: seconds [K] of the frames of each group. seconds: the length of the video so far. Their
    visual table is one row, the newline. Raises ValueError if the words before the video depend on
    the question.
    """
    prompt, first = self._prompt(text, times, seconds)
    if not np.array_equal(prompt.tokens[:first], self.head.tokens):
      raise ValueError(
        f"config.data.template={self._loaded.processor.data['template']!r} writes other words "
        "before the video for another question, so it cannot be used in a live session."
      )
    start = first + len(times) * self.group_tokens
    index = np.where(prompt.index[start:] == TEXT, TEXT, 0)
    return IndexedTokens(prompt.tokens[start:], index.astype(np.int32))

  def longest_question(self, groups: int) -> int:
    """The number of tokens of the empty question after this many groups.

    With times that are as long as any.
    """
    return len(self.question_tokens("", self._late_times(groups), _LATE).tokens)

  def _groups(self, count: int) -> np.ndarray:
    """The pattern of groups, without a newline after the whole video."""
    pattern = visual_order.video_order(count, self._layout)
    return pattern[:-1] if self._ends else pattern

  def _late_times(self, groups: int) -> list[np.ndarray]:
    return [np.full(self._layout.frames_per_group, _LATE)] * groups

  def _prompt(
    self, text: str, times: Sequence[np.ndarray], seconds: float
  ) -> tuple[IndexedTokens, int]:
    """(the whole prompt, the place of its first visual token)."""
    frame_times = np.asarray(times)
    pattern = visual_order.video_order(len(times), self._layout)
    rows = int((pattern != NEWLINE).sum())
    middle = encode.representative(self._loaded.model)
    visual = templates.VisualText(
      len(pattern), seconds, frame_times.reshape(-1), frame_times[:, middle]
    )
    no_table = np.empty((rows + 1, 0))  # Only its length matters.
    media = [EncodedMedia(no_table, pattern, visual, np.zeros((0, 1), int))]
    turns = templates.question(text, 1)
    tokens, index = self._loaded.processor.encode_prompt(turns, media)
    prompt = IndexedTokens(np.asarray(tokens, np.int32), index)
    return prompt, int(np.argmax(index != TEXT))
