# SPDX-License-Identifier: Apache-2.0
"""AdamW with a learning rate and a weight decay per parameter group, over what is trained only.

A group is a row (regex, value) of config.optim.rates or .decay; the first row found in a
parameter's path decides. Rate 0 freezes. The update of a leaf at step n is
-rate · shape(n) · (m̂ / (√v̂ + eps) + decay · w), as in torch.optim.AdamW; moments are float32.
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

Rules = Sequence[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """An optax transformation of the trainable subtree, and which leaves that is."""

  transform: optax.GradientTransformation
  rates: Mapping[str, float]  # Path -> peak learning rate; 0 = frozen.
  decay: Mapping[str, float]  # Path -> weight decay.
  groups: Mapping[str, float]  # Label of a row of config.optim.rates -> its peak, if above 0.
  shape: optax.Schedule  # Update count -> share of the peak.

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """params -> (trainable, frozen), two trees that `merge` joins."""
    flat = traverse_util.flatten_dict(params, sep="/")
    trainable = {path: leaf for path, leaf in flat.items() if self.rates[path]}
    frozen = {path: leaf for path, leaf in flat.items() if not self.rates[path]}
    return (
      traverse_util.unflatten_dict(trainable, sep="/"),
      traverse_util.unflatten_dict(frozen, sep="/"),
    )

  def init(self, params: PyTree) -> PyTree:
    """The optimizer state: moments of the trainable leaves only."""
    return self.transform.init(self.split(params)[0])

  def shardings(self, params: PyTree, layout: PyTree, rest: Any) -> PyTree:
    """Shardings of the state: a moment lies as its parameter in `layout`, all else as `rest`."""
    state = jax.eval_shape(self.init, params)
    return optax.tree_map_params(
      self.transform,
      lambda _, s: s,
      state,
      self.split(layout)[0],
      transform_non_params=lambda _: rest,
    )

  def learning_rates(self, count) -> dict[str, Any]:
    """Label of a group -> its learning rate at update `count` (from 0)."""
    return {label: peak * self.shape(count) for label, peak in self.groups.items()}


def merge(trainable: PyTree, frozen: PyTree) -> PyTree:
  """The inverse of Optimizer.split."""
  flat = [traverse_util.flatten_dict(tree, sep="/") for tree in (trainable, frozen)]
  return traverse_util.unflatten_dict(flat[0] | flat[1], sep="/")


def make(config: Mapping[str, Any], params: PyTree, steps: int) -> Optimizer:
  """The optimizer of config.optim for `params` (arrays or shapes) over `steps` updates.

  Raises ValueError if a leaf has no row, a row decides about no leaf, or nothing is trained.
  """
  paths = list(traverse_util.flatten_dict(params, sep="/"))
  rates = assign(config["rates"], paths, "config.optim.rates")
  decay = assign(config["decay"], paths, "config.optim.decay")
  if not any(rates.values()):
    raise ValueError("Every parameter is frozen. Give a row of config.optim.rates a rate above 0.")
  shape = warmup_cosine(steps, config["warmup"], config["final"])
  tree = lambda values: traverse_util.unflatten_dict(
    {path: value for path, value in values.items() if rates[path]}, sep="/"
  )
  transform = optax.chain(
    _in_float32(),
    optax.clip_by_global_norm(config["clip"]) if config["clip"] else optax.identity(),
    optax.scale_by_adam(config["b1"], config["b2"], config["eps"]),
    _add_decay(tree(decay)),
    optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, tree(rates))),
    optax.scale_by_schedule(lambda count: -shape(count)),
  )
  groups = {_label(regex): rate for regex, rate in config["rates"] if rate}
  return Optimizer(_float32_state(transform), rates, decay, groups, shape)


def assign(rules: Rules, paths: Sequence[str], key: str) -> dict[str, float]:
  """Path -> value of the first rule (regex, value) found in it. `key` names the config entry.

  Raises ValueError for a path without a rule, and for a rule that decides about no path.
  """
  if rules:
    setting_kinds.check_value(key, rules, settings.TABLE["optim.rates"])
  values, used = {}, set()
  for path in paths:
    row = next((i for i, (regex, _) in enumerate(rules) if re.search(regex, path)), None)
    if row is None:
      raise ValueError(
        f'No row of {key} matches {path}. Add one, for example ("^{path.split("/")[0]}/", 0.0).'
      )
    values[path] = float(rules[row][1])
    used.add(row)
  for row, (regex, _) in enumerate(rules):
    if row not in used:
      found = [path for path in paths if re.search(regex, path)]
      why = (
        f"earlier rows take all it matches, such as {found[0]}"
        if found
        else (f"it matches none of the {len(paths)} parameters")
      )
      raise ValueError(f"The row {regex!r} of {key} has no effect: {why}. Remove or move it.")
  return values


def warmup_cosine(steps: int, warmup: float, final: float = 0.0) -> optax.Schedule:
  """Linear from 0 to 1 over `warmup` updates (a share of `steps` if < 1), then a cosine to `final`.

  The rule of transformers' get_cosine_schedule_with_warmup: the update at count 0 has rate 0 if
  there is a warm-up, and a share is rounded up.
  """
  rise = math.ceil(steps * warmup) if warmup < 1 else int(warmup)
  if rise >= steps > 1:
    raise ValueError(
      f"A warm-up of {rise} steps does not end within {steps}. Lower config.optim.warmup."
    )

  def shape(count):
    progress = jnp.clip((count - rise) / max(1, steps - rise), 0, 1)
    cosine = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return jnp.where(count < rise, count / max(1, rise), cosine)

  return shape


def _label(regex: str) -> str:
  """ "^llm/" -> "llm": a name for progress lines and plots."""
  return re.sub(r"\W+", "_", regex).strip("_") or "all"


def _in_float32():
  cast = lambda tree: jax.tree.map(lambda g: g.astype(jnp.float32), tree)
  return optax.stateless(lambda updates, _: cast(updates))


def _float32_state(transform):
  """Moments are made in the dtype of what init sees: show it float32."""
  wide = lambda p: jax.tree.map(lambda w: w.astype(jnp.float32), p)
  return optax.GradientTransformation(lambda p: transform.init(wide(p)), transform.update)


def _add_decay(decay):
  add = lambda u, w, d: u + d * w.astype(u.dtype) if d else u
  return optax.stateless(lambda updates, params: jax.tree.map(add, updates, params, decay))
