# SPDX-License-Identifier: Apache-2.0
"""From media and words to what a VideoLM reads, and back; part of the model that `load` returns."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax
import numpy as np

from data_pipelines.media.open import LIMITS, Limits
from data_pipelines.packing import visual_order
from data_pipelines.sample import Timeline, Turn
from data_pipelines.text import templates
from data_pipelines.text.tokenizers import Tokenizer
from filax.infer import video as video_lib
from filax.infer.encode import Seen
from filax.infer.generate import LENGTHS
from filax.infer.video import Video
from filax.models import components
from filax.spec import TEXT


@dataclasses.dataclass(frozen=True, eq=False)  # Equal only to itself: models are jit arguments.
class Processor:
  """How a checkpoint is fed: its tokenizer, and the sections `data` and `infer` of its config."""

  tokenizer: Tokenizer
  data: Mapping[str, Any]
  infer: Mapping[str, Any]
  mesh: jax.sharding.Mesh | None = None  # Where the parameters lie; None is one device.
  source: str = ""  # The checkpoint.

  def read(self, media: str | Timeline, model) -> Video:
    """Decodes the candidate frames of a video as config.infer.sampling says."""
    if isinstance(media, str):
      media = (video_lib.Scene(media),)
    return video_lib.read_timeline(
      media,
      self.infer["sampling"],
      video_lib.unit_of(model),
      model.encoder.size,
      self.limits,
      self.resize,
    )

  @property
  def resize(self) -> str:
    """How frames become the encoder's pictures, as in data_pipelines.media.frames.read_frames."""
    return self.data.get("resize", "squash")

  def prompt(self, turns: Sequence[Turn], seen: Sequence[Seen]) -> tuple[list[int], np.ndarray]:
    """(tokens, visual_index) of a conversation whose next turn is the assistant's.

    `seen[n]` is what the turns' n-th medium became. The index points into `seen.table(seen)`.
    """
    encoded = templates.prompt(
      turns,
      self.tokenizer,
      template=self.data["template"],
      system=self.data["system"],
      time_prompt=self.infer.get("time_prompt") or self.data["time_prompt"],
      visuals=[s.visual for s in seen],
    )
    index = np.full(len(encoded.tokens), TEXT, np.int32)
    newline, first = sum(s.rows for s in seen), 0
    for (start, stop), medium in zip(encoded.spans, seen, strict=True):
      index[start:stop] = visual_order.placed(medium.pattern, first, newline)
      first += medium.rows
    return encoded.tokens.tolist(), index

  def text(self, ids: Sequence[int]) -> str:
    """The text of an answer."""
    return self.tokenizer.decode(ids).strip()

  @property
  def stop(self) -> tuple[int, ...]:
    """The ids that end an answer; in template plain that is the newline as well."""
    newline = self.tokenizer.encode("\n") if self.data["template"] == "plain" else []
    return (*self.tokenizer.stop_ids, *(newline if len(newline) == 1 else ()))

  def settings(self, **given) -> dict[str, Any]:
    """The arguments of `generate`: what is given and not None, else what config.infer says."""
    known = dict(
      max_new_tokens=self.infer["max_new_tokens"],
      temperature=self.infer["temperature"],
      top_p=self.infer["top_p"],
      lengths=self.lengths,
      stop=self.stop,
      vocab=self.tokenizer.vocab_size,
    )
    return known | {key: value for key, value in given.items() if value is not None}

  @property
  def lengths(self) -> tuple[int, ...]:
    """Buckets of prompts: those of config.infer, and beyond them those of `generate`."""
    own = tuple(self.infer["lengths"])
    return (*own, *(length for length in LENGTHS if length > max(own)))

  @property
  def limits(self) -> Limits:
    """Bounds on opening and decoding a medium. Older checkpoints do not name image_pixels."""
    return Limits(
      open_seconds=self.data["open_seconds"],
      decode_seconds=self.data["decode_seconds"],
      image_pixels=self.data.get("image_pixels", LIMITS.image_pixels),
    )


def of(model) -> Processor:
  """The processor of a model. Raises ValueError if it has none."""
  if model.processor is None:
    raise ValueError(
      "This model has no processor, so it cannot read videos and words. Get it from "
      "filax.load(checkpoint), or set model.clone(processor=filax.infer.processor.Processor(...))."
    )
  return model.processor


def with_selector(model, name: str):
  """The same model with another selector, and as many visual tokens.

  uniform and clips then read just the frames that they show. Selectors that choose keep the
  candidates of config.infer.sampling, or take four times what they show if it names no more than
  that. Raises ValueError for an unknown name.
  """
  processor, size = of(model), model.selector.size
  if processor.infer["selector"]["name"] == name:
    return model
  frames = processor.infer["sampling"]["frames"]
  groups = model.selector.groups(frames)
  shown = groups * size
  fields = components.component("selector", name)[1].__dataclass_fields__
  choice = dict(name=name, size=size) | (dict(scenes=groups) if "scenes" in fields else {})
  selector = components.build("selector", choice)
  if not selector.needs_single:
    frames = shown
  elif frames <= shown:
    frames = 4 * shown
  sampling = dict(processor.infer["sampling"]) | dict(frames=frames)
  infer = dict(processor.infer) | dict(sampling=sampling, selector=choice)
  return model.clone(selector=selector, processor=dataclasses.replace(processor, infer=infer))


def adjusted(model, *, frames: int | None = None, yarn: float | None = None, dropout: str = ""):
  """The model with other settings of inference, where given: most frames of a video, the factor by
  which YaRN stretches the context, visual dropout (a preset of filax.spec.dropout_stages, "off", or
  "layer:kind:ratio,..."). Raises ValueError for what cannot be."""
  processor, llm = of(model), model.llm
  if frames is not None:
    if frames < 1:
      raise ValueError(f"--frames={frames} shows nothing. Set it to 1 or more.")
    sampling = dict(processor.infer["sampling"]) | dict(frames=frames)
    processor = dataclasses.replace(
      processor, infer=dict(processor.infer) | dict(sampling=sampling)
    )
  if yarn is not None:
    if not 1 <= yarn < math.inf:  # Not a number is neither.
      raise ValueError(f"--yarn={yarn} is no factor of the context. Set it to 1 or more.")
    llm = llm.clone(yarn=(yarn, llm.positions) if yarn > 1 else None)
  if dropout:
    llm = llm.clone(dropout=dropout)
    _ = llm.stages
  return model.clone(llm=llm, processor=processor)
