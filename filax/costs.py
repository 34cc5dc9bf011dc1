# SPDX-License-Identifier: Apache-2.0
"""Analytic model FLOPs of a train step.

Each product counts two FLOPs per weight and token. Attention is counted by its pairs of tokens.
Recomputation is not counted. The compiler's own count is of little use, as it counts the body of a
scan only once.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from flax import traverse_util
from jaxtyping import PyTree

# Endings of the parameters of matrix products: kernels, quantised ones, and adapters.
PRODUCTS = ("/kernel", "/kernel_codes", "/kernel_lora_a", "/kernel_lora_b")
FLOW = ("encoder", "merger", "projector", "llm")  # Gradients flow from the last part to the first.


@dataclasses.dataclass(frozen=True)
class Costs:
  """Model FLOPs of a train step, for each unit of work.

  They count forward and backward pass, without recomputation.
  """

  token: float = 0.0  # One text position, visual tokens included, in all layers and the head.
  head: float = 0.0  # The part of `token` in the head.
  pair: float = 0.0  # One pair of positions of which one attends to the other.
  frame: float = 0.0
  image: float = 0.0

  def step_flops(self, sums: Mapping[str, float]) -> float:
    """FLOPs of a step with the counts `sums`.

    Neither padding nor dropped visual tokens count as work.
    """
    return (
      (self.token - self.head) * sums["passed"]
      + self.head * sums["left"]
      + self.pair * sums["pairs"]
      + self.frame * sums["frames"]
      + self.image * sums["images"]
    )


def train_costs(model: Any, params: PyTree, rates: Mapping[str, float]) -> Costs:
  """The costs of a train step of a VideoLM.

  params: arrays or shapes. rates: path of a parameter -> its peak learning rate.

  A matrix product costs, per weight and token:

    2  in the forward pass
    2  more if a gradient passes through it: it or an earlier part is trained
    2  more if its weight is trained

  So a trained weight costs 6, and a frozen encoder 2. Attention has no weights. It costs 4 per
  pair, head unit and layer in the forward pass, and 8 more where a gradient passes.
  """
  work = _Work.count(params, rates)
  encoder = model.encoder
  llm = model.llm
  patches = math.prod(encoder.grid)

  def picture(clip: int) -> float:
    """FLOPs of a picture whose patches attend to those of `clip` pictures."""
    pairs = patches * patches * clip
    attention = work.attention("encoder", pairs * encoder.width * encoder.depth)
    return patches * work.weights("encoder") + attention

  projector = work.weights("projector")
  tokens_of_frame, tokens_of_image = _projected_tokens(model)
  head = work.head_flops()
  token = work.weights("llm")  # Includes the head, unless it is tied.
  if work.is_tied:
    token += head
  return Costs(
    token=token,
    head=head,
    pair=work.attention("llm", llm.heads * llm.head_dim * llm.depth),
    frame=picture(encoder.clip) + tokens_of_frame * projector,
    image=picture(1) + tokens_of_image * projector,
  )


@dataclasses.dataclass(frozen=True)
class _Work:
  """FLOPs of the parts of a model."""

  sizes: Mapping[str, int]  # Path of a parameter -> its size.
  rates: Mapping[str, float]
  gradient: Mapping[str, bool]  # Role -> whether a gradient passes through.

  @classmethod
  def count(cls, params: PyTree, rates: Mapping[str, float]) -> "_Work":
    leaves = traverse_util.flatten_dict(params, sep="/")
    sizes = {path: _weight_count(leaf) for path, leaf in leaves.items()}
    trained_roles = {path.split("/")[0] for path, rate in rates.items() if rate}
    gradient = {}
    passes = False
    for role in FLOW:
      passes = passes or role in trained_roles
      gradient[role] = passes
    return cls(sizes, rates, gradient)

  def weights(self, role: str) -> float:
    """FLOPs of one token through all products of a part."""
    total = 0
    learned = 0
    for path, size in self.sizes.items():
      if path.startswith(f"{role}/") and path.endswith(PRODUCTS):
        total += size
        if self.rates[path]:
          learned += size
    passes = 4 if self.gradient[role] else 2
    return passes * total + 2 * learned

  def attention(self, role: str, units: int) -> float:
    """FLOPs of attention; `units`: pairs x head units x layers."""
    return units * (12 if self.gradient[role] else 4)

  @property
  def is_tied(self) -> bool:
    """Whether the llm's head is its embedding table."""
    return "llm/lm_head/kernel" not in self.sizes

  def head_flops(self) -> float:
    """FLOPs of one token through the llm's head."""
    table = "llm/embed_tokens/embedding" if self.is_tied else "llm/lm_head/kernel"
    factor = 4 if self.gradient["llm"] else 2
    if self.rates[table]:
      factor += 2
    return self.sizes[table] * factor


def _weight_count(leaf: Any) -> int:
  """The weights of a parameter; a byte of nf4 holds two."""
  return math.prod(leaf.shape) * (2 if str(leaf.dtype) == "uint8" else 1)


def _projected_tokens(model) -> tuple[float, float]:
  """Tokens that the projector's layers see, per frame and per image."""
  grid = model.encoder.grid
  frames = model.selector.size
  if model.merge_stage != "vision":
    return math.prod(grid), math.prod(grid)
  group = math.prod(model.merger.grid(frames, grid))
  image = math.prod(model.merger.image_grid(grid))
  return group / frames, image
