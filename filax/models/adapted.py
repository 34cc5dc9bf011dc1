# SPDX-License-Identifier: Apache-2.0
"""The parameters of a model under config.lora: adapters, and codes of a quantised base."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import traverse_util
import jax
from jaxtyping import PyTree

from filax.models import components, lora, quantised
from filax.models.lora import DenseKernel
from filax.models.quantised import quantised_kernels

SAME = "same"  # config.lora.base of a base that is not quantised.


@dataclasses.dataclass(frozen=True)
class Adaptation:
  """Which kernels of a model have adapters, and which are codes."""

  kernels: Mapping[str, DenseKernel]  # Every `Dense` of the model, by path.
  ranks: Mapping[str, int]  # Path of an adapted kernel -> its rank.
  alpha: float = 1.0
  dropout: float = 0.0
  kind: str = SAME  # same | int8 | nf4

  @property
  def coded(self) -> dict[str, DenseKernel]:
    """The kernels that are codes."""
    return {} if self.kind == SAME else quantised_kernels(self.kernels)

  def shapes(self, shapes: PyTree) -> PyTree:
    """The shapes of a model's parameters, with adapters and codes."""
    leaves = traverse_util.flatten_dict(shapes, sep="/")
    leaves = lora.with_adapters(leaves, self.kernels, self.ranks)
    leaves = quantised.with_codes(leaves, self.coded, self.kind)
    in_order = {path: leaves[path] for path in sorted(leaves)}
    return traverse_util.unflatten_dict(in_order, sep="/")

  def check_rates(self, rates: Mapping[str, float]) -> None:
    """Raises ValueError if anything but adapters is trained wrongly.

    rates: path of a parameter -> its peak learning rate.
    """
    for path in self.ranks:
      if rates.get(path):
        raise ValueError(
          f"config.optim.rates trains {path}, which config.lora adapts. Train one of them: with "
          'rows such as (("lora_[ab]$", 1e-4), ("", 0.0)), the adapters alone.'
        )
      if not rates[lora.adapter_name(path, lora.B)]:
        raise ValueError(
          f"config.optim.rates freezes the adapters of {path}. Put a row such as "
          '("lora_[ab]$", 1e-4) first, or leave the kernel out of config.lora.ranks.'
        )
    for path, rate in rates.items():
      if rate and quantised.is_code(path):
        raise ValueError(
          f"config.optim.rates trains {path}, but config.lora.base={self.kind} quantises it, and "
          "codes cannot be trained. Freeze it, or set config.lora.base=same."
        )

  def draw_adapters(self, seed: int) -> dict[str, jax.Array]:
    """Path -> first value of every adapter."""
    leaves = {}
    for number, (path, rank) in enumerate(sorted(self.ranks.items())):
      key = jax.random.fold_in(jax.random.key(seed), number)
      drawn = lora.draw_adapters(key, self.kernels[path], rank, self.alpha)
      for name, x in drawn.items():
        leaves[lora.adapter_name(path, name)] = x
    return leaves

  def scales(self) -> dict[str, float]:
    """Path of a scale -> alpha / rank."""
    scales = {}
    for path, rank in self.ranks.items():
      scales[lora.adapter_name(path, lora.SCALE)] = self.alpha / rank
    return scales


def adaptation(model: Any, settings: components.Section | None) -> Adaptation:
  """The adaptation of a VideoLM by config.lora; none without ranks.

  Raises ValueError for a quantised base without adapters, and for wrong ranks.
  """
  options: dict[str, Any] = dict(settings) if settings else {}
  ranks = options.get("ranks") or ()
  kind = options.get("base", SAME)
  if not ranks:
    if kind != SAME:
      raise ValueError(
        f"config.lora.base={kind} quantises a base that config.lora.ranks gives no adapters, so it "
        'would be trained itself. Set config.lora.ranks, such as (("llm/layers/", 16),), or base '
        "to same."
      )
    return Adaptation({}, {})
  kernels = components.dense_kernels(model)
  chosen = lora.chosen_ranks(ranks, kernels)
  return Adaptation(kernels, chosen, options["alpha"], options["dropout"], kind)


def adapted_shapes(model: Any, settings: components.Section | None) -> PyTree:
  """The parameters of a VideoLM under config.lora, as ShapeDtypeStructs."""
  shapes = components.parameter_shapes(model)
  return adaptation(model, settings).shapes(shapes)
