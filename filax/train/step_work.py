# SPDX-License-Identifier: Apache-2.0
"""FLOPs of a train step by part, and those of recomputation."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax
from jaxtyping import PyTree

from filax.costs import FLOW, Costs, train_costs
from filax.models.lora import KERNEL
from filax.models.quantised import CODES
from filax.parallel.rules import leaf_path
from filax.spec import RowShape, dropout_stages
from filax.train.recompute import LayerShape, layer_shape


@dataclasses.dataclass(frozen=True)
class StepWork:
  """FLOPs of one full row, forward and backward."""

  encoder: float  # With the projector.
  merger: float
  llm: float  # After visual dropout.
  dropped: float  # FLOPs of the llm saved by visual dropout.
  recomputed: float  # Forward passes repeated by config.model.*.remat.

  @property
  def model(self) -> float:
    """FLOPs of the model, without recomputation."""
    return self.encoder + self.merger + self.llm

  @property
  def hardware(self) -> float:
    """FLOPs of the model and of recomputation."""
    return self.model + self.recomputed


def train_work(model: Any, shapes: PyTree, rates: Mapping[str, float], row: RowShape) -> StepWork:
  """The work of a full row that holds one sample."""
  costs = train_costs(model, shapes, rates)
  forward = train_costs(model, shapes, dict.fromkeys(rates, 0.0))
  lengths = (row.length, *dropout_stages.room(row, model.layout()))
  head = costs.head * row.length
  last = costs.head * lengths[-1]
  llm = _llm_flops(model, costs, lengths) + last
  sizes = parameter_sizes(shapes)
  recomputed = 0.0
  if _has_gradient("llm", rates):
    layer = layer_shape("llm", model.llm.width, sizes)
    pairs = model.llm.remat == "nothing"
    recomputed = _llm_flops(model, forward, lengths, pairs, layer.repeated_share(model.llm.remat))
  if model.encoder.remat != "none" and _has_gradient("encoder", rates):
    layer = layer_shape("encoder", model.encoder.width, sizes)
    recomputed += _pictures_again(model, row, layer)
  groups = row.frames // model.selector.size
  return StepWork(
    encoder=row.frames * costs.frame + row.images * costs.image,
    merger=groups * merger_flops(model),
    llm=llm,
    dropped=_layer_flops(costs, row.length) + head - llm,
    recomputed=recomputed,
  )


def merger_flops(model: Any) -> float:
  """FLOPs of merging one group; 0 for mergers that count none."""
  return model.merger.flops(model.selector.size, model.encoder.grid, model.encoder.width)


def parameter_sizes(shapes: PyTree) -> dict[str, tuple[int, ...]]:
  """Path of a parameter -> its shape.

  A quantised kernel counts as the kernel that its codes stand for: [layers elements].
  """
  sizes = {}
  for key_path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    path = leaf_path(key_path)
    shape = tuple(leaf.shape)
    if path.endswith(CODES):
      packed = 2 if leaf.dtype == jax.numpy.uint8 else 1  # Two codes of nf4 in a byte.
      path = path.removesuffix(CODES) + KERNEL
      shape = (shape[0], packed * math.prod(shape[1:]))
    sizes[path] = shape
  return sizes


def _pictures_again(model: Any, row: RowShape, layer: LayerShape) -> float:
  """FLOPs of an encoder's layers that a policy repeats.

  Attention keeps no scores of its pairs: they are computed again under every policy.
  """
  encoder = model.encoder
  patches = math.prod(encoder.grid)
  weights = 2 * layer.elements * layer.repeated_share(encoder.remat) * patches
  products = 4 if encoder.remat == "nothing" else 2  # Scores and outputs, or scores alone.
  attention = products * encoder.width * patches**2
  frames = row.frames * (weights + attention * encoder.clip)
  images = row.images * (weights + attention)
  return encoder.depth * (frames + images)


def _llm_flops(
  model: Any, costs: Costs, lengths: tuple[int, ...], pairs: bool = True, share: float = 1.0
) -> float:
  """FLOPs of the llm's layers.

  lengths: positions of each layer range. share: of the products with weights.
  """
  total = 0
  for (first, stop), length in zip(model.llm.ranges, lengths, strict=True):
    part = (stop - first) / model.llm.depth
    total += part * _layer_flops(costs, length, pairs, share)
  return total


def _layer_flops(costs: Costs, length: int, pairs: bool = True, share: float = 1.0) -> float:
  """FLOPs of all layers over `length` positions.

  pairs: whether attention's products count. Every remat but "nothing" keeps those products.
  """
  weights = share * (costs.token - costs.head) * length
  attention = costs.pair * length**2 / 2 if pairs else 0.0
  return weights + attention


def _has_gradient(part: str, rates: Mapping[str, float]) -> bool:
  """Whether this part, or one before it, is trained."""
  parts = FLOW[: FLOW.index(part) + 1]
  for path, rate in rates.items():
    if rate and path.split("/")[0] in parts:
      return True
  return False
