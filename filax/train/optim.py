# SPDX-License-Identifier: Apache-2.0
"""The optimizer over the trainable parameters.

Learning rate and weight decay are set per group. A group is a row (regex, value) of
config.optim.rates or .decay; the first row that matches a parameter's path decides. A rate of 0
freezes the parameter.

The update of a leaf w at step n is -rate · shape(n) · (g + decay · w). Here shape(n) is the
schedule, and g is the direction that config.optim.kind computes from the gradient
(filax.train.optimisers). For AdamW it is m̂ / (√v̂ + eps), as in torch.optim.AdamW.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import PyTree
import optax

from filax import setting_kinds, settings
from filax.models.lora import SCALE
from filax.train import optimisers

Rules = Sequence[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """An optax transformation of the trainable subtree, and its rules."""

  transform: optax.GradientTransformation
  rates: Mapping[str, float]  # Path -> peak learning rate; 0 = frozen.
  decay: Mapping[str, float]  # Path -> weight decay.
  groups: Mapping[str, float]  # Label of a row of config.optim.rates -> its peak, if above 0.
  shape: optax.Schedule  # Update count -> share of the peak.
  ema: float = 0.0  # Decay of the average of what is trained; 0 = no average.

  def split_params(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """params -> (trainable, frozen), two trees that `merge_params` joins."""
    trainable: dict[str, Any] = {}
    frozen: dict[str, Any] = {}
    for path, leaf in _flatten(params).items():
      part = trainable if self.rates[path] else frozen
      part[path] = leaf
    return _unflatten(trainable), _unflatten(frozen)

  def init(self, params: PyTree) -> PyTree:
    """The optimizer state: moments of the trainable leaves only."""
    trainable, _ = self.split_params(params)
    return self.transform.init(trainable)

  def first_average(self, params: PyTree) -> PyTree:
    """float32 copies of the trainable leaves; None without an average."""
    if not self.ema:
      return None
    trainable, _ = self.split_params(params)
    # Copies, because a step reuses the memory of both.
    return jax.tree.map(lambda x: x.astype(jnp.float32).copy(), trainable)

  def opt_shardings(self, params: PyTree, layout: PyTree, rest: Any) -> PyTree:
    """Shardings of the optimizer state.

    A moment is sharded like its parameter in `layout`. Everything else is sharded like `rest`, also
    the sums over rows and columns of adafactor, which are small. A parameter without a moment has a
    MaskedNode.
    """
    state = jax.eval_shape(self.init, params)
    shardings, _ = self.split_params(layout)
    trainable, _ = self.split_params(params)

    def sharding_of(moment, sharding, param):
      if _is_absent(moment):
        return moment
      return sharding if moment.shape == param.shape else rest

    return optax.tree_map_params(
      self.transform,
      sharding_of,
      state,
      shardings,
      trainable,
      transform_non_params=lambda _: rest,
      is_leaf=_is_absent,
    )

  def learning_rates(self, count) -> dict[str, Any]:
    """Label of a group -> learning rate at update `count` (from 0)."""
    return {label: peak * self.shape(count) for label, peak in self.groups.items()}


def merge_params(trainable: PyTree, frozen: PyTree) -> PyTree:
  """The inverse of Optimizer.split_params."""
  return _unflatten(_flatten(trainable) | _flatten(frozen))


def make_optimizer(
  config: Mapping[str, Any], params: PyTree, steps: int, kernels: optimisers.Kernels | None = None
) -> Optimizer:
  """The optimizer of config.optim for `params` over `steps` updates.

  params: arrays or shapes. kernels: the matrices among them, for kind="muon". Raises ValueError if
  a leaf matches no row, a row applies to no leaf, or nothing is trained.
  """
  leaves = _flatten(params)
  paths = list(leaves)
  rates = peak_rates(config, paths)
  decay = assign_rules(config["decay"], paths, "config.optim.decay")
  if not any(rates.values()):
    raise ValueError("Every parameter is frozen. Give a row of config.optim.rates a rate above 0.")
  shape = warmup_cosine(steps, config["warmup"], config["final"])
  trainable = [path for path in paths if rates[path]]
  optimisers.check_averaging(config, {path: leaves[path].dtype for path in trainable})
  peak_tree = _unflatten({path: rates[path] for path in trainable})
  decay_tree = _unflatten({path: decay[path] for path in trainable})
  rule = optax.chain(
    _gradients_in_float32(),
    _clip(config["clip"]),
    optimisers.gradient_rule(config, peak_tree, kernels or {}),
    _add_decay(decay_tree),
    _scale_by_peak(peak_tree),
    optax.scale_by_schedule(lambda count: -shape(count)),
  )
  groups = {_label(regex): rate for regex, rate in config["rates"] if rate}
  transform = _float32_state(optimisers.average_iterates(config, rule, shape))
  return Optimizer(transform, rates, decay, groups, shape, config.get("ema", 0.0))


def peak_rates(config: Mapping[str, Any], paths: Sequence[str]) -> dict[str, float]:
  """Path -> peak learning rate by config.optim.rates; 0 = frozen.

  Raises ValueError as `assign_rules`.
  """
  rates = assign_rules(config["rates"], paths, "config.optim.rates")
  for path in paths:
    if path.endswith(f"/{SCALE}"):  # A constant of config.lora, whatever the rules say.
      rates[path] = 0.0
  return rates


def float32_where_trained(config: Mapping[str, Any], shapes: PyTree) -> PyTree:
  """The shapes of parameters, float32 for all that config.optim.rates trains.

  Half precision would round most updates away. Near 0.02 its numbers are 1.2e-4 apart in bfloat16,
  and an update of AdamW is about as large as the learning rate, such as 1e-5.
  """
  leaves = _flatten(shapes)
  rates = peak_rates(config, list(leaves))
  for path, leaf in leaves.items():
    if rates[path] and leaf.dtype in (jnp.bfloat16, jnp.float16):
      leaves[path] = jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
  return _unflatten(leaves)


def assign_rules(rules: Rules, paths: Sequence[str], key: str) -> dict[str, float]:
  """Path -> value of the first rule that matches it.

  rules: rows of (regex, value). key: the config entry, for messages. Raises ValueError for a path
  without a rule, and for a rule that applies to no path.
  """
  if rules:
    setting_kinds.check_value(key, rules, settings.TABLE["optim.rates"])
  values = {}
  used = set()
  for path in paths:
    row = _first_match(rules, path)
    if row is None:
      role = path.split("/")[0]
      raise ValueError(f'No row of {key} matches {path}. Add one, for example ("^{role}/", 0.0).')
    _, value = rules[row]
    values[path] = float(value)
    used.add(row)
  for row, (regex, _) in enumerate(rules):
    if row not in used:
      raise ValueError(
        f"The row {regex!r} of {key} has no effect: {_why_unused(regex, paths)}. Remove or move it."
      )
  return values


def _first_match(rules: Rules, path: str) -> int | None:
  """The number of the first rule whose regex matches a path."""
  for row, (regex, _) in enumerate(rules):
    if re.search(regex, path):
      return row
  return None


def _why_unused(regex: str, paths: Sequence[str]) -> str:
  for path in paths:
    if re.search(regex, path):
      return f"earlier rows take all it matches, such as {path}"
  return f"it matches none of the {len(paths)} parameters"


def warmup_cosine(steps: int, warmup: float, final: float = 0.0) -> optax.Schedule:
  """A linear warm-up from 0 to 1, then a cosine to `final`.

  warmup: updates, or a share of `steps` if below 1. The rule of transformers'
  get_cosine_schedule_with_warmup: the update at count 0 has rate 0 if there is a warm-up, and a
  share is rounded up.
  """
  rise = math.ceil(steps * warmup) if warmup < 1 else int(warmup)
  if rise >= steps > 1:
    raise ValueError(
      f"A warm-up of {rise} steps does not end within {steps}. Lower config.optim.warmup."
    )

  def shape(count):
    progress = jnp.clip((count - rise) / max(1, steps - rise), 0, 1)
    falling = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    is_rising = count < rise
    rising = count / max(1, rise)
    return jnp.where(is_rising, rising, falling)

  return shape


def _is_absent(moment: Any) -> bool:
  """Whether a rule keeps no moment of a parameter."""
  return isinstance(moment, optax.MaskedNode)


def _label(regex: str) -> str:
  """ "^llm/" -> "llm": a name for progress lines and plots."""
  return re.sub(r"\W+", "_", regex).strip("_") or "all"


def _gradients_in_float32() -> optax.GradientTransformation:
  return optax.stateless(lambda updates, _: _to_float32(updates))


def _float32_state(transform: optax.GradientTransformation) -> optax.GradientTransformation:
  """Makes the moments float32.

  By default optax gives them the dtype of the parameters at init.
  """
  return optax.GradientTransformation(
    lambda params: transform.init(_to_float32(params)), transform.update
  )


def _clip(norm: float) -> optax.GradientTransformation:
  """Clips the global norm of the trainable gradients; 0 = no clipping."""
  return optax.clip_by_global_norm(norm) if norm else optax.identity()


def _scale_by_peak(rates: PyTree) -> optax.GradientTransformation:
  """Multiplies every update with the peak learning rate of its group."""
  return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, rates))


def _add_decay(decay: PyTree) -> optax.GradientTransformation:
  """Adds decay · w to every update.

  Leaves without decay get no operation.
  """

  def decayed(update, w, factor):
    return update + factor * w.astype(update.dtype) if factor else update

  return optax.stateless(lambda updates, params: jax.tree.map(decayed, updates, params, decay))


def _to_float32(tree: PyTree) -> PyTree:
  return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def _flatten(tree: PyTree) -> dict[str, Any]:
  return traverse_util.flatten_dict(tree, sep="/")


def _unflatten(leaves: Mapping[str, Any]) -> PyTree:
  return traverse_util.unflatten_dict(leaves, sep="/")
