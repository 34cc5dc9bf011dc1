# SPDX-License-Identifier: Apache-2.0
"""The optimizers of config.optim.kind: what they make of a gradient, before the learning rate.

| kind | state of a weight | source |
|---|---|---|
| adamw | two moments, 8 bytes | arXiv:1711.05101, as torch.optim.AdamW |
| lion | one moment, 4 bytes | arXiv:2302.06675 |
| muon | one moment, 4 bytes; two of what is no matrix product | arXiv:2502.16982 |
| adafactor | sums over rows and columns, about 0 | arXiv:1804.04235, without momentum |

All but Adafactor take b1 and b2. Moments are float32.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import jax
from jaxtyping import PyTree
import optax
from optax import contrib

from filax.models.lora import DenseKernel

Kernels = Mapping[str, DenseKernel]  # Path -> the kernel of a matrix product.

_MUON_SCALE = 0.2  # Makes the size of an update that of AdamW, so that rates carry over.
_BLOCK_RMS = 1.0  # Adafactor's largest root mean square of an update.


def gradient_rule(
  config: Mapping[str, Any], params: PyTree, kernels: Kernels
) -> optax.GradientTransformation:
  """The transformation of config.optim.kind over the trainable tree `params`.

  `kernels` says which parameters are matrices, and which of their axes are inputs. Raises
  ValueError for an unknown kind.
  """
  kind = config.get("kind", "adamw")
  if kind not in KINDS:
    raise ValueError(f"config.optim.kind={kind!r} is unknown. Set it to one of {', '.join(KINDS)}.")
  return KINDS[kind](config, params, kernels)


def _adamw(config, params, kernels) -> optax.GradientTransformation:
  del params, kernels
  return optax.scale_by_adam(config["b1"], config["b2"], config["eps"])


def _lion(config, params, kernels) -> optax.GradientTransformation:
  del params, kernels
  return optax.scale_by_lion(config["b1"], config["b2"])


def _adafactor(config, params, kernels) -> optax.GradientTransformation:
  del config, params, kernels
  return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(_BLOCK_RMS))


def _muon(config, params, kernels) -> optax.GradientTransformation:
  """Muon for matrix products, Adam for tables, norms and biases."""
  axes = jax.tree_util.tree_map_with_path(lambda path, _: _axes_of(path, kernels), params)
  labels = jax.tree.map(
    lambda found: "muon" if isinstance(found, contrib.MuonDimensionNumbers) else "adam",
    axes,
    is_leaf=_is_axes,
  )
  matrices = optax.chain(
    contrib.scale_by_muon(beta=config["b1"], weight_dimension_numbers=axes),
    _scale_by_shape(axes),
  )
  return optax.partition(dict(muon=matrices, adam=_adamw(config, params, kernels)), labels)


def _axes_of(path, kernels: Kernels) -> contrib.MuonDimensionNumbers | optax.MaskedNode:
  """Input and output axes of a parameter.

  A MaskedNode if it is no matrix.
  """
  name = "/".join(str(key.key) for key in path)
  kernel = kernels.get(name)
  if kernel is None:
    return optax.MaskedNode()
  first = len(kernel.stack)
  middle = first + kernel.inputs
  inputs = tuple(range(first, middle))
  outputs = tuple(range(middle, len(kernel.shape)))
  return contrib.MuonDimensionNumbers(inputs, outputs)


def _is_axes(x: Any) -> bool:
  return isinstance(x, optax.MaskedNode | contrib.MuonDimensionNumbers)


def _scale_by_shape(axes: PyTree) -> optax.GradientTransformation:
  """Multiplies the update of a matrix with 0.2 √(its longer side)."""

  def scaled(update, found):
    if isinstance(update, optax.MaskedNode):
      return update
    inputs = math.prod(update.shape[axis] for axis in found.reduction_axis)
    outputs = math.prod(update.shape[axis] for axis in found.output_axis)
    return update * (_MUON_SCALE * math.sqrt(max(inputs, outputs)))

  def scale(updates, params):
    del params
    return jax.tree.map(scaled, updates, axes, is_leaf=_is_axes)

  return optax.stateless(scale)


KINDS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
  "adamw": _adamw,
  "lion": _lion,
  "muon": _muon,
  "adafactor": _adafactor,
}
