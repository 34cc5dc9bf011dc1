# SPDX-License-Identifier: Apache-2.0
"""Builds components from plain dicts. The file system is the registry."""

from collections.abc import Mapping
import functools
import importlib
import pkgutil
import sys
import types
from typing import Any

ROLES = ("encoder", "selector", "merger", "projector", "llm")  # In the order data flows.


def build(role: str, config: Mapping[str, Any], **defaults):
  """build("selector", dict(name="kmeans", scenes=9)) -> models.selectors.kmeans.Model(scenes=9).

  `name` is a file of models/<role>s, or "my_lab.scenes:Model" for a component of your own.
  `variant` names a row of the file's VARIANTS. `defaults` fill what neither says, where the class
  has such a field.
  Raises ValueError naming the known files, variants or arguments.
  """
  config = dict(config)
  name, variant = config.pop("name"), config.pop("variant", None)
  module, model = component(role, name)
  sizes = {}
  if variant:
    if variant not in module.VARIANTS:
      raise ValueError(
        f"{role} {name} has no variant {variant!r}. Set config.model.{role}.variant to one of "
        f"{', '.join(module.VARIANTS)}.")
    sizes = module.VARIANTS[variant]
  fields = set(model.__dataclass_fields__) - {"parent", "name"}
  if unknown := sorted(set(config) - fields):
    raise ValueError(
      f"{role} {name} takes no {', '.join(map(repr, unknown))}. Known arguments in "
      f"config.model.{role}: {', '.join(sorted(fields))}.")
  return model(**({k: v for k, v in defaults.items() if k in fields} | sizes | config))


def component(role: str, name: str):
  """(module, class) behind a component's name."""
  path, _, attribute = name.partition(":")  # "my_lab.scenes:Model" needs no fork.
  if not attribute:
    if name not in (known := available(role)):
      raise ValueError(
        f"No file models/{role}s/{name}.py. Set config.model.{role}.name to one of "
        f"{', '.join(known)}, or to your own \"package.module:Class\".")
    path, attribute = f"filax.models.{role}s.{name}", "Model"
  module = importlib.import_module(path)
  return module, getattr(module, attribute)


def available(role: str) -> list[str]:
  """The components of a role: its files."""
  package = importlib.import_module(f"filax.models.{role}s")
  return sorted(m.name for m in pkgutil.iter_modules(package.__path__))


def build_video_lm(config: Mapping[str, Any], selector: Mapping[str, Any] | None = None):
  """A VideoLM from config.model; `selector` replaces the training selector (config.infer.selector).

  config.model: one dict a role, merge_stage, encode_chunk, dtype and param_dtype (of all parts
  that do not set their own).
  """
  from filax.models.video_lm import VideoLM

  config = dict(config)
  roles = {role: dict(config.pop(role)) for role in ROLES}
  if selector is not None:
    roles["selector"] = dict(selector)
  types = {key: config.pop(key, "float32") for key in ("dtype", "param_dtype")}
  llm = build("llm", roles.pop("llm"), **types)
  parts = {role: build(role, roles[role], out=llm.width, **types) for role in roles}
  parts["llm"] = llm
  known = set(VideoLM.__dataclass_fields__) - {"parent", "name", "processor", *ROLES}
  if unknown := sorted(set(config) - known):
    raise ValueError(f"Unknown key config.model.{unknown[0]}. Known: {', '.join(sorted(known))}.")
  return VideoLM(**parts, **config)


def parameter_shapes(model) -> dict[str, Any]:
  """The parameters of a VideoLM as a tree of ShapeDtypeStructs. No device is asked."""
  import jax

  return jax.tree.map(lambda leaf: leaf, _shapes(model))  # The caller's own dicts.


@functools.lru_cache(maxsize=64)  # To trace a model takes a second, and commands ask repeatedly.
def _shapes(model) -> dict[str, Any]:
  import jax

  init = lambda batch: model.init(jax.random.key(0), batch)["params"]
  return jax.eval_shape(init, model.example())


def dims_table(config: Mapping[str, Any]):
  """The DIMS rows of every part of config.model, prefixed with the role: what shards a VideoLM."""
  rows = []
  for role in ROLES:
    module, _ = component(role, config[role]["name"])
    rows += [(rf"^{role}/.*{pattern.removeprefix('^')}", dims)
             for pattern, dims in getattr(module, "DIMS", ())]
  return tuple(rows)


class _Callable(types.ModuleType):
  """Lets filax.build(...) be the function, though importing this module sets filax.build to it."""

  def __call__(self, role: str, config: Mapping[str, Any], **defaults):
    return build(role, config, **defaults)


sys.modules[__name__].__class__ = _Callable
