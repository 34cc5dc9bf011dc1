# SPDX-License-Identifier: Apache-2.0
"""FLOPs of a train step by part, counted by us (filax.costs), and what recomputation adds."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from jaxtyping import PyTree

from filax.costs import FLOW, train_costs
from filax.spec import RowShape, dropout_stages


@dataclasses.dataclass(frozen=True)
class Work:
  """FLOPs of one full row, forward and backward."""

  encoder: float  # With the projector.
  merger: float
  llm: float  # After visual dropout.
  dropped: float  # What visual dropout saves in the llm.
  recomputed: float  # Forward passes that config.model.*.remat runs again.

  @property
  def model(self) -> float:
    """What must be computed, nothing twice."""
    return self.encoder + self.merger + self.llm

  @property
  def hardware(self) -> float:
    """What is computed."""
    return self.model + self.recomputed


def train_work(model: Any, shapes: PyTree, rates: Mapping[str, float], row: RowShape) -> Work:
  """The work of a row whose every frame, image and position is used, by one sample."""
  costs = train_costs(model, shapes, rates)
  forward = train_costs(model, shapes, dict.fromkeys(rates, 0.0))
  lengths = (row.length, *dropout_stages.room(row, model.layout()))
  shares = [(stop - first) / model.llm.depth for first, stop in model.llm.ranges]
  layers = lambda costs, pairs=True: sum(
    share * _read(costs, n, pairs) for share, n in zip(shares, lengths, strict=True)
  )
  head = costs.head * row.length
  last = costs.head * lengths[-1]
  llm = layers(costs) + last
  again = layers(forward, pairs=model.llm.remat == "nothing")
  recomputed = again if model.llm.remat != "none" and _passes("llm", rates) else 0.0
  if model.encoder.remat != "none" and _passes("encoder", rates):
    recomputed += row.frames * forward.frame + row.images * forward.image
  merge = getattr(model.merger, "flops", lambda *sizes: 0.0)
  groups = row.frames // model.selector.size
  return Work(
    encoder=row.frames * costs.frame + row.images * costs.image,
    merger=groups * merge(model.selector.size, model.encoder.grid, model.encoder.width),
    llm=llm,
    dropped=_read(costs, row.length) + head - llm,
    recomputed=recomputed,
  )


def _read(costs, length: int, pairs: bool = True) -> float:
  """All layers over `length` positions; but for remat "nothing", what pairs give is kept."""
  return (costs.token - costs.head) * length + pairs * costs.pair * length**2 / 2


def _passes(part: str, rates: Mapping[str, float]) -> bool:
  """Whether a gradient passes through a part: it, or one before it, is trained."""
  parts = FLOW[: FLOW.index(part) + 1]
  return any(rate and path.split("/")[0] in parts for path, rate in rates.items())
