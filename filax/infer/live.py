# SPDX-License-Identifier: Apache-2.0
"""A live session: frames arrive, and questions are answered about all of them so far.

Frames are encoded group by group, and their tokens are computed by the language model once. The
keys and values of a question and its answer use places of the cache behind the video, which are
free again afterwards. So the next frames follow the frames before, and not the question.
"""

from collections.abc import Sequence
import dataclasses
import threading
from typing import Any
import weakref

import numpy as np

from data_pipelines.sample import Turn
from data_pipelines.text import templates
from filax.infer import decoding, encode
from filax.infer.answer_settings import check_answer_settings
from filax.infer.chat import Answer, StreamedAnswer
from filax.infer.compiled import bucket
from filax.infer.live_answer import LiveAnswer
from filax.infer.live_budget import LiveBudget
from filax.infer.live_cache import LiveCache
from filax.infer.live_frames import WaitingFrames
from filax.infer.live_prompt import VideoPrompt
from filax.infer.loaded import LoadedModel
from filax.infer.prefix import CHUNK, QUESTIONS, IndexedTokens
from filax.infer.text_stream import TextStream
from filax.infer.video import frame_unit
from filax.parallel.mesh import without_mesh

DROPS = ("oldest", "attended")
SETTINGS = ("max_new_tokens", "temperature", "top_p", "top_k", "min_p")  # Settings of an answer.
MANY = 32  # Frames that are encoded at a time, if at least this number waits.
KEPT_SHARE = 0.75  # When the budget is full, this share of it is kept, so that drops are rare.
NEWEST_SHARE = 0.25  # This share of the kept groups, the newest, is never dropped by attention.


@dataclasses.dataclass(frozen=True)
class LiveStatus:
  """What a live session has seen and what it still holds."""

  seconds: float  # Time of the newest frame that was read.
  frames: int  # Frames read.
  waiting: int  # Frames that wait until their clip is whole.
  tokens: int  # Visual tokens held.
  groups: int  # Groups of frames held.
  dropped: int  # Groups dropped.
  oldest: float  # Time of the oldest frame held.


class LiveSession:
  """A growing video, and questions about what was seen so far.

    live = session.live()
    live.append(frames, times)  # uint8 [t h w 3] of any size, seconds [t]
    print(live.ask("What happens?").text)

  tokens: the budget, as the most visual tokens that are held. memory: the budget in bytes of the
  cache, instead. room: places for a question and its answer. drop: which groups of frames are
  dropped when the budget is full, until three quarters of it are left. "oldest" drops the oldest
  groups. "attended" drops those to which the last question paid the least attention (before the
  first question, an empty question decides), but never the newest quarter.

  The cache is allocated at the start, so memory does not grow, and no append compiles anything.
  Questions do not see one another. No visual token is dropped inside the llm
  (config.model.llm.dropout is off), because the choice would depend on the question.

  A selector that chooses scenes needs the whole video. With such a model, the session uses groups
  of neighbouring frames, as in training (`selector` is then "uniform"). Methods may be called from
  several threads. Raises ValueError for a budget that holds no clip, or exceeds the context.
  """

  @without_mesh()
  def __init__(
    self,
    loaded: LoadedModel,
    *,
    tokens: int | None = None,
    memory: int | None = None,
    drop: str = "oldest",
    room: int | None = None,
  ):
    if drop not in DROPS:
      raise ValueError(f"drop={drop!r} is unknown. Set it to {' or '.join(DROPS)}.")
    if "encoder" not in loaded.params:
      raise ValueError("This checkpoint is a language model alone, which sees no videos.")
    if loaded.model.selector.needs_single:
      loaded = loaded.with_selector("uniform")
    self.loaded = loaded.adjusted(dropout="off")
    self.selector: str = self.loaded.processor.infer["selector"]["name"]
    self.turns: list[Turn] = []  # The newest question and its answer.
    self._drop = drop
    self._prompt = VideoPrompt(self.loaded)
    self.budget = LiveBudget(self.loaded, self._prompt, tokens, memory, room)
    self._lock = threading.RLock()
    self._open: weakref.ref[LiveAnswer] | None = None  # The newest answer.
    size = self.loaded.model.encoder.size
    self._waiting = WaitingFrames(size, self.loaded.processor.resize)
    self._times: list[np.ndarray] = []  # Seconds [K] of the frames of each group held.
    self._frames = 0
    self._dropped = 0
    self._seconds = 0.0  # Time of the newest frame in the cache.
    self._newline: Any = None  # Its row of a visual table, [1 1 D], after the first clip.
    self._probe = ""  # The last question, whose attention decides.
    self._cache = LiveCache(self.loaded, self.budget.slots)

  @property
  def status(self) -> LiveStatus:
    """What was seen and what is held."""
    times = self._times  # Another thread may set other ones.
    groups = len(times)
    return LiveStatus(
      seconds=self._seconds,
      frames=self._frames,
      waiting=len(self._waiting),
      tokens=groups * self._prompt.group_tokens,
      groups=groups,
      dropped=self._dropped,
      oldest=float(times[0][0]) if groups else 0.0,
    )

  @without_mesh()
  def append(self, frames: np.ndarray, times: Sequence[float] | np.ndarray) -> None:
    """Adds frames uint8 [t h w 3] and their seconds [t].

    Seconds must not decrease. A frame is encoded when its group and its clip are complete. While an
    answer is generated, frames wait until its end. Raises ValueError for invalid arrays, without a
    change of the session.
    """
    with self._lock:
      self._waiting.add_frames(frames, times)
      if self._open_answer() is None:
        self._read_waiting()

  def ask(self, question: str, *, seed: int = 0, **settings) -> Answer:
    """Answers a question about everything that was seen so far.

    settings: max_new_tokens, temperature (0 is greedy), top_p, top_k and min_p; None means the
    value of config.infer. The answer ends before the first of `stop_strings`. Raises ValueError if
    no clip is complete yet, and if the question does not fit in `room`.
    """
    streamed = self.stream(question, seed=seed, **settings)
    for _ in streamed:
      pass
    return streamed.answer

  @without_mesh()
  def stream(
    self,
    question: str,
    *,
    seed: int = 0,
    stop_strings: Sequence[str] | str | None = None,
    **settings,
  ) -> StreamedAnswer:
    """The answer of `ask`, piece by piece while it is generated.

    To end it early, stop the iteration or call `cancel_answer`. Raises RuntimeError while another
    answer is open.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
      raise TypeError(f"A live session takes {', '.join(SETTINGS)}, but not {unknown[0]}.")
    values = self.loaded.processor.settings(**settings)
    new_tokens = values["max_new_tokens"]
    temperature = values["temperature"]
    drawn: dict[str, Any] = dict(
      temperature=temperature,
      top_p=values["top_p"],
      top_k=values.get("top_k", 0),
      min_p=values.get("min_p", 0.0),
    )
    check_answer_settings(max_new_tokens=new_tokens, seed=seed, **drawn)
    sampling = decoding.sampling_settings(
      self.loaded.model, vocab=values["vocab"], stop=values["stop"], **drawn
    )
    with self._lock:
      if self._open_answer() is not None:
        raise RuntimeError("Another answer is open. Read it to its end, or cancel it.")
      self._read_waiting()
      if not self._times:
        unit = frame_unit(self.loaded.model)
        raise ValueError(
          f"Nothing was seen yet: a clip is {unit} frames, and {len(self._waiting)} came so far."
        )
      prompt = self._prompt.question_tokens(question, self._times, self._seconds)
      self.budget.check_room(prompt, new_tokens)
      self._probe = question
      answer = self._cache.answer_chunks(
        prompt, self._newline, new_tokens, sampling, greedy=temperature == 0, seed=seed
      )
      open_answer = LiveAnswer(answer, self._lock)
      self._open = weakref.ref(open_answer)
      turns = templates.question(question, 1)
      text = TextStream(self.loaded.processor.tokenizer.decode, stop_strings)
      prompt_tokens = self._cache.length + len(prompt.tokens)
      return StreamedAnswer(self, turns, open_answer, prompt_tokens, [text])

  def cancel_answer(self) -> None:
    """Ends the answer that is open, if any."""
    answer = self._open_answer()
    if answer is not None:
      answer.close()

  def _open_answer(self) -> "LiveAnswer | None":
    """The answer that uses the cache now.

    None if it has ended, or if its caller has dropped it.
    """
    answer = None if self._open is None else self._open()
    return answer if answer is not None and answer.is_open else None

  def _read_waiting(self) -> None:
    """Encodes all complete clips that wait."""
    unit = frame_unit(self.loaded.model)
    many = max(1, MANY // unit) * unit
    while len(self._waiting) >= unit:
      count = many if len(self._waiting) >= many and self._fits(many) else unit
      self._read_clips(*self._waiting.take_frames(count))

  def _fits(self, frames: int) -> bool:
    """Whether this many frames are a small part of the budget."""
    groups = frames // self.loaded.model.selector.size
    return 4 * groups <= self.budget.groups

  def _read_clips(self, frames: np.ndarray, seconds: np.ndarray) -> None:
    """Encodes complete clips, and adds their tokens to the cache."""
    model = self.loaded.model
    count = len(frames)
    groups = count // model.selector.size
    with self.loaded.on_mesh():
      visual = encode.EMBED(
        f"1 x {count} frames",
        model,
        self.loaded.params,
        frames[None],
        np.ones((1, count), bool),
        encode.no_pictures(model.encoder.size),
      )
      if self._newline is None:
        self._newline = visual.table[:, -1:]
        self._read_head()
    self._make_room(groups)
    content = self._prompt.clips(groups)
    self._cache.add_tokens(content, visual.table, len(content.tokens))
    self._times += list(seconds.reshape(groups, -1))
    self._frames += count
    self._seconds = float(seconds[-1])

  def _read_head(self) -> None:
    """Adds the text before the video to the cache."""
    head = self._prompt.head
    for first in range(0, len(head.tokens), CHUNK):
      part = IndexedTokens(head.tokens[first : first + CHUNK], head.index[first : first + CHUNK])
      size = bucket(len(part.tokens), QUESTIONS, "filax.infer.prefix.QUESTIONS")
      self._cache.add_tokens(part, self._newline, size)

  def _make_room(self, groups: int) -> None:
    """Drops groups, if this many more would exceed the budget."""
    limit = self.budget.groups
    if len(self._times) + groups <= limit:
      return
    target = max(0, min(int(limit * KEPT_SHARE), limit - groups))
    kept = self._kept_groups(target)
    head = len(self._prompt.head.tokens)
    tokens = np.arange(self._prompt.group_tokens)
    of_groups = head + kept[:, None] * self._prompt.group_tokens + tokens
    self._cache.keep(np.concatenate([np.arange(head), of_groups.ravel()]))
    self._dropped += len(self._times) - len(kept)
    self._times = [self._times[group] for group in kept]

  def _kept_groups(self, target: int) -> np.ndarray:
    """The groups to keep, ascending: int [target]."""
    total = len(self._times)
    if self._drop == "oldest":
      return np.arange(total - target, total)
    probe = self._prompt.question_tokens(self._probe, self._times, self._seconds)
    scores = self._cache.attention(probe, self._newline)
    head = len(self._prompt.head.tokens)
    of_groups = scores[head : self._cache.length].reshape(total, -1).sum(1)
    newest = total - int(target * NEWEST_SHARE)
    of_groups[newest:] = np.inf
    order = np.argsort(-of_groups, kind="stable")
    return np.sort(order[:target])
