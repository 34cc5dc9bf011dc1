# SPDX-License-Identifier: Apache-2.0
"""Bytes that a recomputation policy keeps in a layer, and the work that it repeats.

Both follow from the names of a layer's kernels, so that they hold for every component that uses
these names. Policies and the names of saved values are in filax.models.layers.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re

from filax.models.layers import SAVED_NAMES

# Kernel of a product -> the name under which its result is saved; "" = no gradient needs it.
_RESULTS = (
  (r"/q_proj/kernel$", "query"),
  (r"/k_proj/kernel$", "key"),
  (r"/v_proj/kernel$", "value"),
  (r"/(o_proj|out_proj|attn/proj)/kernel$", "middle"),
  (r"/gate_proj/kernel$", "gate"),
  (r"/(up_proj|fc1)/kernel$", "up"),
  (r"/(down_proj|fc2)/kernel$", ""),
)
_ALWAYS_REPEATED = "-"  # The result of a kernel that matches no row.


@dataclasses.dataclass(frozen=True)
class LayerShape:
  """One layer of an encoder or llm, in numbers for each token."""

  width: int
  weights: Mapping[str, int]  # Name of a result -> elements of the kernels behind it.

  @property
  def elements(self) -> int:
    """Elements of all kernels."""
    return sum(self.weights.values())

  def features(self, name: str) -> int:
    """Elements of a saved value of one token."""
    if name == "attn":
      return self.weights.get("middle", 0) // self.width  # What the output projection reads.
    if name == "middle":
      return self.width
    return self.weights.get(name, 0) // self.width

  def kept(self, policy: str) -> tuple[int, int]:
    """Elements kept of one token: (on every device, split over tensor).

    Every policy keeps what enters the layer.
    """
    shared = self.width
    split = 0
    for name in saved_names(policy):
      if name == "middle":
        shared += self.width
      else:
        split += self.features(name)
    return shared, split

  def repeated_share(self, policy: str) -> float:
    """The share of the forward pass's products that is computed again."""
    if policy == "none" or not self.elements:
      return 0.0
    saved = {"", *saved_names(policy)}
    repeated = 0
    for name, size in self.weights.items():
      if name not in saved:
        repeated += size
    return repeated / self.elements


def saved_names(policy: str) -> Sequence[str]:
  """The values that a policy keeps on the device.

  "offload" keeps them on the host; "none" keeps at least those of "products".
  """
  if policy == "none":
    return SAVED_NAMES["products"]
  return SAVED_NAMES.get(policy, ())


def layer_shape(role: str, width: int, sizes: Mapping[str, Sequence[int]]) -> LayerShape:
  """The shape of a layer of "encoder" or "llm".

  sizes: path of a parameter -> its shape. Layers are stacked along the first axis.
  """
  weights: dict[str, int] = {}
  for path, shape in sizes.items():
    if path.startswith(f"{role}/layers/") and path.endswith("/kernel"):
      name = _result(path)
      weights[name] = weights.get(name, 0) + math.prod(shape[1:])
  return LayerShape(width, weights)


def _result(path: str) -> str:
  """The name under which the result of a kernel is saved."""
  for pattern, name in _RESULTS:
    if re.search(pattern, path):
      return name
  return _ALWAYS_REPEATED
