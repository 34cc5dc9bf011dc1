# SPDX-License-Identifier: Apache-2.0
"""Questions about a video, in words."""

from collections.abc import Mapping
import dataclasses
import os
import time

import jax

from data_pipelines.sample import Scene, Turn
from data_pipelines.text import templates as chat_lib
from filax.infer import encode as seen_lib
from filax.infer import encode_long
from filax.infer import processor as processor_lib
from filax.infer.generate import generate
from filax.infer.video import Video


def chat(
  model,
  params: Mapping,
  video: Video | str | os.PathLike,
  question: str,
  *,
  max_new_tokens: int | None = None,
  temperature: float | None = None,
  top_p: float | None = None,
  top_k: int | None = None,
  seed: int = 0,
) -> str:
  """The answer of a loaded model (filax.load) to one question about a video.

  `video` is what read_video returned, or a path, which is read as the checkpoint's config says.
  Settings that are None come from config.infer; temperature 0 is greedy. For several questions use
  a Conversation: it encodes the video once. Raises ValueError in one sentence for bad media.
  """
  talk = Conversation(model, params, video)
  return talk.ask(
    question,
    max_new_tokens=max_new_tokens,
    temperature=temperature,
    top_p=top_p,
    top_k=top_k,
    seed=seed,
  ).text


@dataclasses.dataclass(frozen=True)
class Answer:
  """What was said to one question."""

  text: str
  tokens: int  # New tokens.
  prompt_tokens: int
  stopped: bool  # The model ended the answer itself; else max_new_tokens did.
  seconds: Mapping[str, float]  # prefill, decode


class Conversation:
  """A talk about one video, which is read and encoded once, when the conversation begins.

  `times` are the seconds of every group that the llm sees (its representative), `scenes` those of
  all its frames, `seconds` how long reading and encoding took. Where the model groups neighbouring
  frames, a path is read part by part, whatever its length (then `read` is part of `encode`), and
  `encode_cache` names a folder that keeps merged tokens, so that later talks about the video skip
  the encoder.
  """

  def __init__(
    self,
    model,
    params: Mapping,
    video: Video | str | os.PathLike,
    encode_cache: str | os.PathLike = "",
  ):
    self.model, self.params = model, params
    self.processor = processor_lib.of(model)
    self.turns: list[Turn] = []
    start = time.perf_counter()
    if not isinstance(video, Video) and encode_long.suits(model):
      self.video, self.seen = encode_long.see(
        model, params, (Scene(os.fspath(video)),), encode_cache
      )
      self.seconds = dict(read=0.0, encode=time.perf_counter() - start)
      return
    if not isinstance(video, Video):
      video = self.processor.read(os.fspath(video), model)
    middle = time.perf_counter()
    self.video, self.seen = video, seen_lib.see(model, params, video)
    jax.block_until_ready(self.seen.table)
    self.seconds = dict(read=middle - start, encode=time.perf_counter() - middle)

  @property
  def times(self) -> list[float]:
    return [float(t) for t in self.seen.visual.group_times]

  @property
  def scenes(self) -> list[list[float]]:
    return self.video.times[self.seen.groups].tolist()

  def ask(self, question: str, *, seed: int = 0, **settings) -> Answer:
    """Answers, with what was said before in mind; `settings` as those of `chat`.

    Raises ValueError if the talk has outgrown the model's context; `forget` makes room.
    """
    asked = (Turn("user", (question,)),) if self.turns else chat_lib.question(question)
    turns = (*self.turns, *asked)
    prompt, index = self.processor.prompt(turns, [self.seen])
    made = generate(
      self.model,
      self.params,
      [prompt],
      table=self.seen.table[None],
      visual_index=[index],
      seed=seed,
      **self.processor.settings(**settings),
    )
    text = self.processor.text(made.tokens[0])
    self.turns = [*turns, Turn("assistant", (text,))]
    return Answer(
      text,
      len(made.tokens[0]),
      len(prompt),
      made.stopped[0],
      dict(prefill=made.prefill_seconds, decode=made.decode_seconds),
    )

  def forget(self) -> None:
    """Starts the talk anew; the video stays encoded."""
    self.turns = []
