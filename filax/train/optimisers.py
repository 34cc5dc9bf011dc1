# SPDX-License-Identifier: Apache-2.0
"""The optimizers of config.optim.kind: what they make of a gradient, before the learning rate.

| kind | state of a weight | source |
|---|---|---|
| adamw | two moments, 8 bytes | arXiv:1711.05101, as torch.optim.AdamW |
| lion | one moment, 4 bytes | arXiv:2302.06675 |
| muon | one moment, 4 bytes; two of what is not a matrix product | arXiv:2502.16982 |
| adafactor | sums over rows and columns, about 0 | arXiv:1804.04235, without momentum |
| schedule_free | one moment and a second iterate, 8 bytes | arXiv:2405.15682, with AdamW |

All but Adafactor take b1 and b2. Moments are float32. The rate of schedule_free stays at its peak
after the warm-up: averaging of the iterates takes the place of a falling rate.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
import optax
from optax import contrib

from filax.models.lora import DenseKernel

Kernels = Mapping[str, DenseKernel]  # Path -> the kernel of a matrix product.

SCHEDULE_FREE = "schedule_free"

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


def average_iterates(
  config: Mapping[str, Any], rule: optax.GradientTransformation, shape: optax.Schedule
) -> optax.GradientTransformation:
  """`rule`, or for kind="schedule_free" its schedule-free form.

  The parameters then are the points of the gradients. Rates of groups differ by constants, which
  the weights of the average do not depend on.
  """
  if config.get("kind") != SCHEDULE_FREE:
    return rule
  return contrib.schedule_free(rule, shape, config["b1"])


def check_averaging(config: Mapping[str, Any], dtypes: Mapping[str, Any]) -> None:
  """Raises ValueError for settings that schedule_free excludes.

  dtypes: path of a trained parameter -> its dtype.
  """
  if config.get("kind") != SCHEDULE_FREE:
    return
  if config["final"] != 1:
    raise ValueError(
      f"config.optim.final={config['final']:g}, but the rate of config.optim.kind={SCHEDULE_FREE} "
      "does not fall. Set config.optim.final=1.0."
    )
  if not config["b1"]:
    raise ValueError(
      f"config.optim.b1=0, but config.optim.kind={SCHEDULE_FREE} divides by it. Set it above 0, "
      "such as 0.9."
    )
  if config.get("ema"):
    raise ValueError(
      f"config.optim.ema={config['ema']:g} would average once more what config.optim.kind="
      f"{SCHEDULE_FREE} averages. Set config.optim.ema=0.0."
    )
  for path, dtype in dtypes.items():
    if dtype != jnp.float32:
      raise ValueError(
        f"config.optim.kind={SCHEDULE_FREE} recovers averages from the parameters, so those that "
        f"are trained must be float32, but {path} is {dtype}. Set config.model.param_dtype=float32."
      )


def _adamw(config, params, kernels) -> optax.GradientTransformation:
  del params, kernels
  return optax.scale_by_adam(config["b1"], config["b2"], config["eps"])


def _lion(config, params, kernels) -> optax.GradientTransformation:
  del params, kernels
  return optax.scale_by_lion(config["b1"], config["b2"])


def _adafactor(config, params, kernels) -> optax.GradientTransformation:
  del config, params, kernels
  return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(_BLOCK_RMS))


def _second_moment(config, params, kernels) -> optax.GradientTransformation:
  """AdamW without the first moment, which schedule-free averaging replaces."""
  del params, kernels
  return optax.scale_by_rms(config["b2"], config["eps"], eps_in_sqrt=False, bias_correction=True)


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

  A MaskedNode if it is not a matrix.
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
  SCHEDULE_FREE: _second_moment,
}
