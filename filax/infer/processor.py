# SPDX-License-Identifier: Apache-2.0
"""Prompts, answers and settings of a checkpoint."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from data_pipelines.media.open import LIMITS, Limits
from data_pipelines.packing import visual_order
from data_pipelines.sample import Turn
from data_pipelines.text import templates
from data_pipelines.text.tokenizers import Tokenizer
from filax.infer.encoded_media import EncodedMedia
from filax.infer.lengths import LENGTHS
from filax.spec import TEXT


@dataclasses.dataclass(frozen=True, eq=False)  # Compared by identity: it may be part of a jit key.
class Processor:
  """The tokenizer of a checkpoint, and config.data and config.infer."""

  tokenizer: Tokenizer
  data: Mapping[str, Any]
  infer: Mapping[str, Any]
  mesh: jax.sharding.Mesh | None = None  # The mesh of the parameters; None for one device.
  source: str = ""  # The path of the checkpoint, as it was given.
  step: str = ""  # The folder of the step whose parameters were read.

  @property
  def sampling(self) -> Mapping[str, Any]:
    """config.infer.sampling: which frames of a video are read."""
    return self.infer["sampling"]

  @property
  def resize(self) -> str:
    """The resize mode of frames, as in data_pipelines.media.frames.read_frames."""
    return self.data.get("resize", "squash")

  def encode_prompt(
    self, turns: Sequence[Turn], media: Sequence[EncodedMedia], answer_start: str = ""
  ) -> tuple[list[int], np.ndarray]:
    """(tokens, visual_index) of a conversation up to the assistant's next turn.

    That turn begins with `answer_start`, which the model continues. `media[n]` is the encoded n-th
    medium of the turns. The index points into `encoded_media.joined_table(media)`.
    """
    encoded = templates.encode_prompt(
      turns,
      self.tokenizer,
      template=self.data["template"],
      system=self.data["system"],
      time_prompt=self.infer.get("time_prompt") or self.data["time_prompt"],
      visuals=[medium.text for medium in media],
      answer_start=answer_start,
    )
    index = np.full(len(encoded.tokens), TEXT, np.int32)
    newline = sum(medium.tokens for medium in media)
    first = 0
    for (start, stop), medium in zip(encoded.spans, media, strict=True):
      index[start:stop] = visual_order.placed(medium.pattern, first, newline)
      first += medium.tokens
    return encoded.tokens.tolist(), index

  def answer_text(self, ids: Sequence[int]) -> str:
    """The text of an answer."""
    return self.tokenizer.decode(ids).strip()

  @property
  def stop(self) -> tuple[int, ...]:
    """The ids that end an answer, with template plain also the newline."""
    stop_ids = tuple(self.tokenizer.stop_ids)
    if self.data["template"] != "plain":
      return stop_ids
    newline = self.tokenizer.encode("\n")
    return (*stop_ids, *newline) if len(newline) == 1 else stop_ids

  def settings(self, **overrides) -> dict[str, Any]:
    """The arguments of `generate`: config.infer updated by `overrides`.

    Overrides of None are ignored.
    """
    settings = dict(
      max_new_tokens=self.infer["max_new_tokens"],
      temperature=self.infer["temperature"],
      top_p=self.infer["top_p"],
      lengths=self.lengths,
      stop=self.stop,
      vocab=self.tokenizer.vocab_size,
    )
    for name, value in overrides.items():
      if value is not None:
        settings[name] = value
    return settings

  @property
  def lengths(self) -> tuple[int, ...]:
    """Prompt buckets of config.infer, then the longer ones of `generate`."""
    configured = tuple(self.infer["lengths"])
    longest = max(configured)
    longer = [length for length in LENGTHS if length > longest]
    return (*configured, *longer)

  @property
  def limits(self) -> Limits:
    """Bounds on opening and decoding a medium.

    Older checkpoints have no image_pixels, so they get the default.
    """
    return Limits(
      open_seconds=self.data["open_seconds"],
      decode_seconds=self.data["decode_seconds"],
      image_pixels=self.data.get("image_pixels", LIMITS.image_pixels),
    )

  def with_infer(self, **changes) -> "Processor":
    """The processor with other entries of config.infer."""
    return dataclasses.replace(self, infer=dict(self.infer) | changes)
