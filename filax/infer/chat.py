# SPDX-License-Identifier: Apache-2.0
"""Questions about a video, in words."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
import time
from typing import Any, Protocol

import jax

from data_pipelines.sample import Turn
from data_pipelines.text import templates
from filax.infer import encode, encode_long
from filax.infer.encoded_media import EncodedMedia
from filax.infer.generate import TokenChunk, stream
from filax.infer.loaded import LoadedModel
from filax.infer.text_stream import TextStream
from filax.infer.video import DecodedVideo, VideoSource, timeline_of
from filax.parallel.mesh import without_mesh


@dataclasses.dataclass(frozen=True)
class Answer:
  """The answer to one question."""

  text: str
  tokens: int  # New tokens.
  prompt_tokens: int
  stopped: bool  # True if the model or a stop string ended it, False for max_new_tokens.
  seconds: Mapping[str, float]  # prefill, decode


class Conversation:
  """A conversation about one video, which is encoded once, at the start.

  If the video is None, the conversation is about text only. The attributes:

    times        the seconds of each group's representative frame
    scene_times  the seconds of all frames of each group
    seconds      the duration of reading and of encoding

  If the model groups neighbouring frames, a path is read part by part, whatever its length (then
  `encode` includes `read`). `encode_cache` then names a folder that stores merged tokens, so that
  later conversations about the video skip the encoder.
  """

  @without_mesh()
  def __init__(
    self,
    loaded: LoadedModel,
    video: VideoSource | None,
    encode_cache: str | os.PathLike[str] = "",
  ):
    self.loaded = loaded
    self.turns: list[Turn] = []
    self.video: DecodedVideo | None = None
    self.media: EncodedMedia | None = None
    self.seconds = dict(read=0.0, encode=0.0)
    if video is None:
      return
    if "encoder" not in loaded.params:
      raise ValueError(
        "This checkpoint is a language model alone, which sees no videos. Ask without --video."
      )
    start = time.perf_counter()
    if not isinstance(video, DecodedVideo) and encode_long.can_stream(loaded.model):
      timeline = timeline_of(video)
      self.video, self.media = encode_long.encode_timeline(loaded, timeline, encode_cache)
      self.seconds = dict(read=0.0, encode=time.perf_counter() - start)
      return
    if not isinstance(video, DecodedVideo):
      video = encode.read_video_and_compile(loaded, video)
    middle = time.perf_counter()
    self.video = video
    self.media = encode.encode_video(loaded, video)
    jax.block_until_ready(self.media.table)
    self.seconds = dict(read=middle - start, encode=time.perf_counter() - middle)

  def video_and_media(self) -> tuple[DecodedVideo, EncodedMedia]:
    """The video and its encoding.

    Raises ValueError if the conversation is about none.
    """
    if self.video is None or self.media is None:
      raise ValueError("This conversation is about no video. Start one with a video.")
    return self.video, self.media

  @property
  def times(self) -> list[float]:
    """Seconds of each group's representative frame."""
    if self.media is None:
      return []
    return [float(second) for second in self.media.text.group_times]

  @property
  def scene_times(self) -> list[list[float]]:
    """Seconds of all frames of each group."""
    if self.video is None or self.media is None:
      return []
    return self.video.times[self.media.groups].tolist()

  def ask(self, question: str, *, seed: int = 0, **settings: Any) -> Answer:
    """Answers a question in the context of the earlier turns.

    `settings`: max_new_tokens, temperature (0 is greedy), top_p, top_k, min_p and
    repetition_penalty; None means the value of config.infer, or no effect. The answer ends before
    the first of `stop_strings`. Raises ValueError if the conversation exceeds the model's context;
    `forget` clears the earlier turns.
    """
    return self.ask_several(question, 1, seed=seed, **settings)[0]

  def ask_several(
    self, question: str, answers: int, *, seed: int = 0, **settings: Any
  ) -> list[Answer]:
    """Several answers to one question, which is read once.

    The conversation continues from the first answer. answers: at most MOST_ANSWERS of
    filax.infer.answer_settings. settings: as in `ask`. At temperature 0, all answers are the same.
    """
    streamed = self.stream(question, seed=seed, answers=answers, **settings)
    for _ in streamed:
      pass
    return streamed.answers

  @without_mesh()
  def stream(
    self,
    question: str,
    *,
    seed: int = 0,
    stop_strings: Sequence[str] | str | None = None,
    answers: int = 1,
    **settings: Any,
  ) -> "StreamedAnswer":
    """The answer of `ask`, piece by piece while it is generated.

    Iterate over the result to receive pieces of text; `answer` is the whole afterwards. Of several
    answers, the pieces are those of the first. Stopping the iteration cancels the answer, and the
    conversation forgets the question. Raises ValueError at once, as `ask`.
    """
    media = [] if self.media is None else [self.media]
    if self.turns:
      turns = (*self.turns, *templates.question(question, 0))
    else:
      turns = templates.question(question, len(media))
    processor = self.loaded.processor
    prompt, index = processor.encode_prompt(turns, media)
    chunks = stream(
      self.loaded.model,
      self.loaded.params,
      [prompt],
      table=None if self.media is None else self.media.table[None],
      visual_index=None if self.media is None else [index],
      answers=answers,
      seed=seed,
      mesh=processor.mesh,
      **processor.settings(**settings),
    )
    decode = processor.tokenizer.decode
    texts = [TextStream(decode, stop_strings) for _ in range(answers)]
    return StreamedAnswer(self, tuple(turns), chunks, len(prompt), texts)

  def forget(self) -> None:
    """Forgets the earlier turns; the video stays encoded."""
    self.turns = []


class Talk(Protocol):
  """What an answer belongs to: a conversation or a live session."""

  loaded: LoadedModel
  turns: list[Turn]


class ChunkStream(Protocol):
  """Chunks of tokens, generated when they are asked for.

  `close` ends them.
  """

  def __iter__(self) -> Iterator[TokenChunk]: ...

  def __next__(self) -> TokenChunk: ...

  def close(self) -> None: ...


class StreamedAnswer:
  """The pieces of an answer's text.

  After the last piece, `answer` is the whole answer, and `answers` are all answers.
  """

  def __init__(
    self,
    conversation: Talk,
    turns: tuple[Turn, ...],
    chunks: ChunkStream,
    prompt_tokens: int,
    texts: Sequence[TextStream],
  ):
    self._conversation = conversation
    self._turns = turns
    self._chunks = chunks
    self._prompt_tokens = prompt_tokens
    self._texts = texts
    self._answers: list[Answer] | None = None

  @property
  def answer(self) -> Answer:
    """The whole answer. Raises RuntimeError before the last piece."""
    return self.answers[0]

  @property
  def answers(self) -> list[Answer]:
    """All answers to the question. Raises RuntimeError before the last piece."""
    if self._answers is None:
      raise RuntimeError("The answer is not complete. Iterate over its pieces first.")
    return self._answers

  def close(self) -> None:
    """Ends the answer where it stands: no further chunk is generated."""
    self._chunks.close()

  def __iter__(self) -> Iterator[str]:
    first, *others = self._texts
    tokens = [0] * len(self._texts)
    stopped = [False] * len(self._texts)
    seconds = []
    for chunk in self._chunks:
      seconds.append(chunk.seconds)
      for row, text in enumerate(self._texts):
        if text.stopped:
          continue
        tokens[row] += len(chunk.ids[row])
        stopped[row] = chunk.stopped[row]
        piece = text.add_ids(chunk.ids[row])
        if piece and text is first:
          yield piece
      if all(text.stopped for text in self._texts):
        break
    if piece := first.finish():
      yield piece
    for text in others:
      text.finish()
    self._conversation.turns = [*self._turns, Turn("assistant", (first.text,))]
    phases = dict(prefill=seconds[0], decode=sum(seconds[1:]))
    answers = []
    for count, ended, text in zip(tokens, stopped, self._texts, strict=True):
      answers.append(Answer(text.text, count, self._prompt_tokens, ended or text.stopped, phases))
    self._answers = answers
