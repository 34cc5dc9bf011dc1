# SPDX-License-Identifier: Apache-2.0
"""Reads the parameters of a step one layer at a time, adapters merged.

A checkpoint of adapters is read together with its base, as filax.checkpoint.merged does on devices.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath
import numpy as np

from filax.checkpoint import averages, base, streamed
from filax.models import lora


class ParameterReader:
  """The parameters of one step, as a model without adapters has them."""

  def __init__(self, step: Path | epath.Path, is_base: bool = False):
    """Opens a step, and the bases it refers to.

    is_base: whether adapters refer to it. Raises ValueError if one is damaged or not there.
    """
    self.step = step
    self._is_base = is_base
    record = streamed.read_json(step, "data")
    self.stored: Mapping[str, Any] = streamed.shapes(step)  # Path -> shape and dtype.
    self._digests = record["digests"]
    reference = base.reference_of(record)
    self._base: ParameterReader | None = None
    if reference is not None:
      self._base = ParameterReader(reference.locate(), is_base=True)

  @property
  def leaves(self) -> dict[str, Any]:
    """Path -> shape and dtype of every parameter, without adapters."""
    leaves = {} if self._base is None else self._base.leaves
    for path, leaf in self.stored.items():
      if not lora.is_adapter(path):
        leaves[path] = leaf
    return dict(sorted(leaves.items()))

  @property
  def adapted(self) -> list[str]:
    """Paths of the kernels that have adapters here."""
    ending = f"/{lora.A}"
    return [
      path.removesuffix(lora.A) + lora.KERNEL for path in self.stored if path.endswith(ending)
    ]

  def adapters(self, kernel: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B and scale of a kernel, stacked as it is."""
    paths = [lora.adapter_name(kernel, name) for name in lora.NAMES]
    a, b, scale = (self._read_stored(path) for path in paths)
    return a, b, scale

  def whole(self, path: str, merge: bool = True) -> np.ndarray:
    """One parameter. merge: adds its adapters."""
    is_adapted = lora.adapter_name(path, lora.A) in self.stored
    if path in self.stored:
      x = self._read_stored(path)
    else:
      x = self._of_base(path).whole(path, merge and not is_adapted)
    return lora.merge_kernel(x, *self.adapters(path)) if merge and is_adapted else x

  def layers(self, path: str, merge: bool = True) -> Iterator[np.ndarray]:
    """The layers of a stacked parameter, one after the other."""
    is_adapted = lora.adapter_name(path, lora.A) in self.stored
    if path in self.stored:
      layers = self._stored_layers(path)
    else:
      layers = self._of_base(path).layers(path, merge and not is_adapted)
    if not (merge and is_adapted):
      yield from layers
      return
    a, b, scale = self.adapters(path)
    for number, layer in enumerate(layers):
      yield lora.merge_kernel(layer, a[number], b[number], scale[number])

  def _read_stored(self, path: str) -> np.ndarray:
    """A stored parameter, or its average in the same dtype."""
    tree = averages.tree_of(path, self._digests, self._is_base)
    x = streamed.read_parameter(self.step, path, self._digests.get(f"{tree}/{path}"), tree)
    return x.astype(self.stored[path].dtype, copy=False)

  def _stored_layers(self, path: str) -> Iterator[np.ndarray]:
    tree = averages.tree_of(path, self._digests, self._is_base)
    digest = self._digests.get(f"{tree}/{path}")
    for layer in streamed.read_layers(self.step, path, digest, tree):
      yield layer.astype(self.stored[path].dtype, copy=False)

  def _of_base(self, path: str) -> "ParameterReader":
    if self._base is None:
      raise ValueError(f"{self.step} has no parameter {path}.")
    return self._base
