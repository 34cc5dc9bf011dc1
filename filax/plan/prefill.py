# SPDX-License-Identifier: Apache-2.0
"""The work of reading a video, by frame count (`filax flops`)."""

import dataclasses
import math

import jax

from filax.costs import train_costs
from filax.models import components
from filax.spec import dropout_stages


@dataclasses.dataclass(frozen=True)
class Work:
  """FLOPs of reading a video of `frames` frames, which are `tokens` visual tokens."""

  frames: int
  tokens: int
  encoder: float  # With the connector.
  merger: float
  llm: float
  paper: float

  @property
  def total(self) -> float:
    return self.encoder + self.merger + self.llm


class Reader:
  """Counts for a VideoLM; nothing is computed but shapes."""

  def __init__(self, model):
    shapes = components.parameter_shapes(model)
    paths = [
      jax.tree_util.keystr(p, simple=True, separator="/")
      for p, _ in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    self.model = model
    self.costs = train_costs(model, shapes, dict.fromkeys(paths, 0.0))

  def work(self, frames: int, per_frame: float | None = None) -> Work:
    """Of `frames` frames; `per_frame` visual tokens a frame instead of the model's own."""
    model = self.model
    layout = self.model.layout()
    groups = math.ceil(frames / layout.frames_per_group)
    tokens = groups * layout.tokens_per_group if per_frame is None else round(frames * per_frame)
    merge = getattr(model.merger, "flops", lambda *sizes: 0.0)
    merger = groups * merge(model.selector.size, model.encoder.grid, model.encoder.width)
    llm = paper = 0.0
    for share, length in self._ranges(tokens):
      weights = share * (self.costs.token - self.costs.head) * length
      squares = share * self.costs.pair * length**2
      llm += weights + squares / 2
      paper += 2 * weights + 1.5 * squares
    llm += self.costs.head  # Only the last position needs the next token.
    paper += 2 * self.costs.head * length
    return Work(frames, tokens, frames * self.costs.frame, merger, llm, paper)

  def _ranges(self, tokens: int) -> list[tuple[float, int]]:
    """(share of the layers, visual tokens they see)."""
    llm = self.model.llm
    stages = self.model.stages
    kept = dropout_stages.kept([tokens], stages)[:, 0].tolist()
    return [
      ((stop - first) / llm.depth, length)
      for (first, stop), length in zip(llm.ranges, (tokens, *kept), strict=True)
    ]
