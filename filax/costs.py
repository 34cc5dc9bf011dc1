# SPDX-License-Identifier: Apache-2.0
"""Model FLOPs counted by us: two per weight and token, attention by its pairs, no recomputation.

The compiler's own count is of little use: it takes the body of a scan once.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from flax import traverse_util
from jaxtyping import PyTree

FLOW = ("encoder", "merger", "projector", "llm")  # A gradient goes back from the last to the first.


@dataclasses.dataclass(frozen=True)
class Costs:
  """Model FLOPs (forward and backward, nothing counted twice) that a train step does for..."""

  token: float = 0.0  # ... each text position, visual ones included, in all layers and the head.
  head: float = 0.0  # ... of which in the head.
  pair: float = 0.0  # ... each pair of positions of which one sees the other.
  frame: float = 0.0
  image: float = 0.0

  def step(self, sums: Mapping[str, float]) -> float:
    """FLOPs of what `sums` counts; neither padding nor a dropped visual token is work."""
    return (
      (self.token - self.head) * sums["passed"]
      + self.head * sums["left"]
      + self.pair * sums["pairs"]
      + self.frame * sums["frames"]
      + self.image * sums["images"]
    )


def train_costs(model: Any, params: PyTree, rates: Mapping[str, float]) -> Costs:
  """The costs of a train step of a VideoLM; `params` may be shapes, `rates` is path -> peak rate.

  A matrix product costs 2 a weight and token forward, 2 more where a gradient passes through (some
  part before it, or it itself, is trained) and 2 more if its weight is trained: 6 for what is
  trained, 2 for a frozen encoder. Attention has no weights: 4 a pair, head unit and layer forward,
  8 more where a gradient passes.
  """
  leaves = traverse_util.flatten_dict(params, sep="/")
  kernels = {path: math.prod(x.shape) for path, x in leaves.items() if path.endswith("/kernel")}
  trained = [role for role in FLOW if any(r and p.startswith(f"{role}/") for p, r in rates.items())]
  passes = lambda role: any(FLOW.index(t) <= FLOW.index(role) for t in trained)

  def weights(role: str) -> float:
    """Of one token through all products of a part."""
    own = {p: n for p, n in kernels.items() if p.startswith(f"{role}/")}
    learned = sum(n for path, n in own.items() if rates[path])
    return (4 if passes(role) else 2) * sum(own.values()) + 2 * learned

  attention = lambda role, units: units * (12 if passes(role) else 4)
  patches, encoder, llm = math.prod(model.encoder.grid), model.encoder, model.llm
  picture = lambda clip: (
    patches * weights("encoder")
    + attention("encoder", patches * patches * clip * encoder.width * encoder.depth)
  )
  frame, image = _projected(model)
  untied = "llm/lm_head/kernel" in kernels
  table = "llm/lm_head/kernel" if untied else "llm/embed_tokens/embedding"
  head = math.prod(leaves[table].shape) * ((4 if passes("llm") else 2) + (2 if rates[table] else 0))
  return Costs(
    token=weights("llm") + (0 if untied else head),
    head=head,
    pair=attention("llm", llm.heads * llm.head_dim * llm.depth),
    frame=picture(encoder.clip) + frame * weights("projector"),
    image=picture(1) + image * weights("projector"),
  )


def _projected(model) -> tuple[float, float]:
  """How many tokens the projector's layers see per frame and per image."""
  grid, frames = model.encoder.grid, model.selector.size
  if model.merge_stage != "vision":
    return math.prod(grid), math.prod(grid)
  image = math.prod(model.merger.image_grid(grid))
  return math.prod(model.merger.grid(frames, grid)) / frames, image
