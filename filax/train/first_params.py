# SPDX-License-Identifier: Apache-2.0
"""The parameters a run starts from: read, quantised or drawn, leaf by leaf."""

from collections.abc import Mapping
import functools
from typing import Any

from etils import epath
import jax
from jaxtyping import PyTree
import numpy as np

from filax.checkpoint import base, coded, store
from filax.checkpoint.store import say
from filax.checkpoint.tree import flatten_tree, select_leaves, unflatten_tree
from filax.checkpoint.tuples import as_tuples
from filax.models import components, lora, quantised
from filax.models.adapted import Adaptation
from filax.models.lora import KERNEL
from filax.parallel import agreement

Leaves = dict[str, jax.Array]  # By path.
_UNSEEN = ("theta", "eps", "yarn", "stretch")  # Settings that the shapes of weights do not show.
_ADAPTER_SEED = 0x10A  # Folded into config.seed: adapters draw apart from the model.


def read_start(
  source: str,
  like: PyTree,
  adaptation: Adaptation,
  rates: Mapping[str, float],
  saved: store.Checkpoints,
) -> Leaves:
  """The parameters of `source` that the model also has, adapters merged.

  Missing and unused ones are printed. With adapters, `saved` will refer to the checkpoint of
  `source` in place of its frozen parameters, and that step is pinned.
  """
  if not adaptation.ranks:
    params, missing, extra = store.restore_params(source, like)
    leaves = flatten_tree(params)
  else:
    step = _pinned_step(source, saved)
    leaves, missing, extra = coded.read_coded(
      step, flatten_tree(like), adaptation.coded, adaptation.kind
    )
    _check_scales(leaves, adaptation, source)
    frozen = [path for path in leaves if not rates[path] and not lora.is_adapter(path)]
    saved.leave_to_base(base.refer(step), frozen)
  say(f"Starting from the parameters of {source}.")
  for name in missing:
    if not lora.is_adapter(name):
      say(f"  not in it, drawn anew: {name}")
  for name in extra:
    say(f"  in it, not used: {name}")
  return leaves


def report_other_settings(source: str, model: Mapping[str, Any]) -> None:
  """Prints settings that differ from those of `source` although its weights fit."""
  before = as_tuples(store.read_config(source)["model"])
  for role in ("encoder", "llm"):
    if before.get(role, {}).get("name") != model[role]["name"]:
      continue
    old = components.build(role, before[role])
    new = components.build(role, model[role])
    for name in _UNSEEN:
      value = getattr(new, name, None)
      trained = getattr(old, name, None)
      if value != trained:
        say(f"  config.model.{role}.{name} is {value}, but {source} was trained with {trained}.")


def _check_scales(leaves: Leaves, adaptation: Adaptation, source: str) -> None:
  """Raises ValueError if adapters of `source` would count otherwise here."""
  for path, scale in adaptation.scales().items():
    if path not in leaves:
      continue
    before = jax.device_get(leaves[path])
    if not np.allclose(before, scale, rtol=1e-6):
      raise ValueError(
        f"The adapters of {source} count {before.max():g} times at {path}, but config.lora gives "
        f"{scale:g} (alpha / rank). Set config.lora.alpha so that they agree."
      )


def _pinned_step(source: str, saved: store.Checkpoints) -> epath.Path:
  """The newest step of `source` that process 0 sees.

  It is pinned before it is read.

  The run of `source` may go on, and remove steps while they are read.
  """

  def pin_newest() -> str:
    while True:
      step = store.newest_step(source)
      is_pinned = base.pin(step, saved.folder.parent)
      if base.checkpoint_hash(step):  # It was not removed before it was pinned.
        break
    if not is_pinned:
      say(
        f"  {step} cannot be pinned: its folder is read-only. Its run must keep it (config.keep), "
        "for the adapters need it."
      )
    return str(step)

  return epath.Path(agreement.from_first(pin_newest))


def complete_from_base(
  restored: store.Restored, like: PyTree, adaptation: Adaptation, saved: store.Checkpoints
) -> PyTree:
  """The parameters of a checkpoint of adapters, with those of its base.

  Raises ValueError if the base is another one, or lacks a parameter.
  """
  assert restored.base is not None
  step = restored.base.locate()
  stored = flatten_tree(restored.state.params)
  wanted = {}
  for path, leaf in flatten_tree(like).items():
    if path not in stored or lora.is_adapter(path):  # Those of the base would be merged else.
      wanted[path] = leaf
  leaves, missing, _ = coded.read_coded(step, wanted, adaptation.coded, adaptation.kind)
  missing = [path for path in missing if path not in stored]
  if missing:
    raise ValueError(
      f"The base {step} lacks {len(missing)} parameters of this config, such as {missing[0]}. "
      "Restore config.model and config.lora, or use another --workdir."
    )
  of_base = select_leaves(leaves, lambda path: path not in stored)
  saved.leave_to_base(base.refer(step), list(of_base))
  base.pin(step, saved.folder.parent)
  return unflatten_tree(of_base | stored)


def draw_missing(
  seed: int, model: Any, adaptation: Adaptation, leaves: Mapping[str, Any]
) -> Leaves:
  """First values of some parameters, by path.

  leaves: their shapes and shardings. The compiled programs do not keep the others. Raises
  ValueError for codes, which are never drawn.
  """
  codes = list(filter(quantised.is_code, leaves))
  if codes:
    raise ValueError(
      f"config.lora.base={adaptation.kind} quantises the kernels of config.init_from, which has no "
      f"{codes[0].rpartition('/')[0]}/{KERNEL}. Set config.init_from to a trained model, or "
      "config.lora.base=same."
    )
  adapters = select_leaves(leaves, lora.is_adapter)
  rest = select_leaves(leaves, lambda path: path not in adapters)
  drawn = _draw_adapters(seed, adaptation, adapters) if adapters else {}
  return drawn | (_draw_model(seed, model, rest) if rest else {})


def _draw_adapters(seed: int, adaptation: Adaptation, leaves: Mapping[str, Any]) -> Leaves:
  def draw_chosen():
    drawn = adaptation.draw_adapters(seed ^ _ADAPTER_SEED)
    return {path: drawn[path] for path in leaves}

  return jax.jit(draw_chosen, out_shardings=_shardings(leaves))()


def _draw_model(seed: int, model: Any, leaves: Mapping[str, Any]) -> Leaves:
  dtypes = {path: leaf.dtype for path, leaf in leaves.items()}
  program = _drawing_program(model, tuple(_shardings(leaves).items()), tuple(dtypes.items()))
  return program(jax.random.key(seed), model.example())


@functools.lru_cache(maxsize=4)  # Runs of other seeds trace it no second time.
def _drawing_program(
  model: Any, shardings: tuple[tuple[str, Any], ...], dtypes: tuple[tuple[str, Any], ...]
) -> jax.stages.Wrapped:
  """The jitted function (key, example batch) -> first values by path."""

  def draw_chosen(key, batch):
    drawn = flatten_tree(model.init(key, batch)["params"])
    return {path: drawn[path].astype(dtype) for path, dtype in dtypes}

  return jax.jit(draw_chosen, out_shardings=dict(shardings))


def _shardings(leaves: Mapping[str, Any]) -> dict[str, Any]:
  return {path: leaf.sharding for path, leaf in leaves.items()}
