# SPDX-License-Identifier: Apache-2.0
"""The memory of a live session: visual tokens held, and places for a question and its answer."""

import bisect
import functools

import jax

from filax.infer.generate import context_length
from filax.infer.live_prompt import VideoPrompt
from filax.infer.loaded import LoadedModel
from filax.infer.prefix import CHUNK, IndexedTokens
from filax.infer.video import frame_unit

TOKENS = 16_384  # Visual tokens held by default, if the model's context is long enough.
ROOM = 1024  # Places for a question and its answer, if they are a quarter of the context or less.


class LiveBudget:
  """The visual tokens of a session, and the places of its cache.

  `tokens` or `memory` (bytes of the cache) is the wish; `room` are places for a question and its
  answer. `groups` is the most groups of frames held, `slots` the places of the cache. Raises
  ValueError for a budget that holds no clip, or exceeds the context.
  """

  def __init__(
    self,
    loaded: LoadedModel,
    prompt: VideoPrompt,
    tokens: int | None = None,
    memory: int | None = None,
    room: int | None = None,
  ):
    if tokens is not None and memory is not None:
      raise ValueError("A live session takes a budget of tokens or of memory, not of both.")
    context = context_length(loaded.model)
    if room is not None and not 0 < room < context:
      raise ValueError(f"room={room} cannot be used. Set it to 1 or more, below {context}.")
    self._prompt = prompt
    self._room = room or min(ROOM, context // 4)
    largest = self._largest(context)
    wish = f"a context of {context}"
    groups = min(TOKENS // prompt.group_tokens, largest)
    if tokens is not None:
      wish = f"tokens={tokens}"
      groups = tokens // prompt.group_tokens
    elif memory is not None:
      wish = f"memory={memory}"
      slots = memory // bytes_per_slot(loaded)
      groups = min(largest, self._largest(slots - CHUNK))
    if groups > largest:
      raise ValueError(
        f"A live session with {wish} and room={self._room} exceeds the context of {context}. Set "
        f"tokens to {largest * prompt.group_tokens} or less, or lower room."
      )
    clip = frame_unit(loaded.model) // loaded.model.selector.size
    if groups < clip:
      raise ValueError(
        f"A live session with {wish} and room={self._room} holds no clip, which is "
        f"{clip * prompt.group_tokens} visual tokens. Raise it, or lower room."
      )
    self.groups = groups
    self.slots = self._places(groups) + CHUNK  # A padded chunk may reach beyond the last token.

  @property
  def tokens(self) -> int:
    """The most visual tokens held."""
    return self.groups * self._prompt.group_tokens

  def check_room(self, question: IndexedTokens, new_tokens: int) -> None:
    """Raises ValueError if a question and its answer do not fit.

    They must fit after a full budget.
    """
    room = self._question_places(self.groups)
    count = len(question.tokens)
    if count + new_tokens > room:
      raise ValueError(
        f"A question of {count} tokens and max_new_tokens={new_tokens} exceed the {room} places "
        "that a live session keeps for them. Shorten one, or open the session with a larger room."
      )

  def _largest(self, places: int) -> int:
    """The most groups that fit in this many places with everything else."""
    groups = range(1 + max(0, places) // self._prompt.group_tokens)
    return max(0, bisect.bisect_right(groups, places, key=self._places) - 1)

  def _places(self, groups: int) -> int:
    """Places of the whole prompt with an answer."""
    video = groups * self._prompt.group_tokens
    return len(self._prompt.head.tokens) + video + self._question_places(groups)

  def _question_places(self, groups: int) -> int:
    """Places for a question about this many groups, and its answer."""
    return self._prompt.longest_question(max(1, groups)) + self._room


def bytes_per_slot(loaded: LoadedModel) -> int:
  """Bytes of the keys and values of one token in all layers."""
  cache = jax.eval_shape(functools.partial(loaded.model.llm.empty_cache, 1, 1))
  return sum(part.size * part.dtype.itemsize for part in (cache.k, cache.v))
