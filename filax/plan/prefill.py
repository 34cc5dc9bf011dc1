# SPDX-License-Identifier: Apache-2.0
"""FLOPs of reading a video, by frame count (`filax flops`)."""

import dataclasses
import math

import jax

from filax.costs import train_costs
from filax.models import components
from filax.spec import dropout_stages
from filax.train.step_work import merger_flops


@dataclasses.dataclass(frozen=True)
class PrefillWork:
  """FLOPs of reading a video of `frames` frames, `tokens` visual tokens."""

  frames: int
  tokens: int
  encoder: float  # With the connector.
  merger: float
  llm: float
  paper: float

  @property
  def total(self) -> float:
    """FLOPs of all parts."""
    return self.encoder + self.merger + self.llm


class PrefillCosts:
  """Counts the FLOPs of a VideoLM from the shapes of its parameters."""

  def __init__(self, model):
    shapes = components.parameter_shapes(model)
    frozen = {}
    for path, _ in jax.tree_util.tree_leaves_with_path(shapes):
      frozen[jax.tree_util.keystr(path, simple=True, separator="/")] = 0.0
    self.model = model
    self.costs = train_costs(model, shapes, frozen)

  def video_work(self, frames: int, per_frame: float | None = None) -> PrefillWork:
    """The work of `frames` frames; `per_frame` overrides the model's tokens a frame."""
    layout = self.model.layout()
    groups = math.ceil(frames / layout.frames_per_group)
    if per_frame is None:
      tokens = groups * layout.tokens_per_group
    else:
      tokens = round(frames * per_frame)
    llm = 0.0
    paper = 0.0
    for share, length in self._ranges(tokens):
      weights = share * (self.costs.token - self.costs.head) * length
      squares = share * self.costs.pair * length**2
      llm += weights + squares / 2
      paper += 2 * weights + 1.5 * squares
    llm += self.costs.head  # Only the last position needs the next token.
    paper += 2 * self.costs.head * length
    return PrefillWork(
      frames=frames,
      tokens=tokens,
      encoder=frames * self.costs.frame,
      merger=groups * merger_flops(self.model),
      llm=llm,
      paper=paper,
    )

  def _ranges(self, tokens: int) -> list[tuple[float, int]]:
    """(share of the layers, their number of visual tokens), in order."""
    llm = self.model.llm
    stages = self.model.stages
    kept = dropout_stages.kept([tokens], stages)[:, 0].tolist()
    ranges = []
    for (first, stop), length in zip(llm.ranges, (tokens, *kept), strict=True):
      share = (stop - first) / llm.depth
      ranges.append((share, length))
    return ranges
