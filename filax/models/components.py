# SPDX-License-Identifier: Apache-2.0
"""Builds components and models from plain dicts.

There is no registry: a component's name is the name of its file in models/<role>s.
"""

from collections.abc import Iterable, Mapping, Sequence
import functools
import importlib
import os
import pkgutil
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
  from filax.models.lora import DenseKernel
  from filax.models.video_lm import VideoLM

COMPONENTS_HELP = (
  "a Python module from which the checkpoint may load components of its own (repeatable)"
)
_FILE_NAME = re.compile(r"[a-z0-9_]+")
QUANTISED = ("int8", "nf4")  # Codes of filax.models.quantised.
ROLES = ("encoder", "selector", "merger", "projector", "llm")  # In the order data flows.


@runtime_checkable
class Section(Protocol):
  """A part of a config: a dict or a ConfigDict.

  The type exists because a ConfigDict is not a Mapping. `dict(section)` copies either.
  """

  def keys(self) -> Iterable[str]: ...

  def __getitem__(self, key: str, /) -> Any: ...


def build(role: str, config: Section, **defaults: Any) -> Any:
  """Builds the component of a role from a dict.

    build("selector", dict(name="kmeans", scenes=9)) -> models.selectors.kmeans.Model(scenes=9)

  The config's `name` is a file of models/<role>s, or "my_lab.scenes:Model" for a user's component.
  Its optional `variant` names a row of the file's VARIANTS. All other keys are fields of the class.
  `defaults` fill class fields that are set neither in the config nor by the variant. Raises
  ValueError, naming the known files, variants or arguments.
  """
  options = dict(config) if isinstance(config, Section) else {}
  if "name" not in options:
    raise ValueError(
      f"config.model.{role} has no name. Set it to one of {', '.join(available(role))}."
    )
  name = options.pop("name")
  variant = options.pop("variant", None)
  module, model = component(role, name)
  sizes = _variant_sizes(role, name, module, variant) if variant else {}
  fields = set(model.__dataclass_fields__) - {"parent", "name"}
  unknown = sorted(set(options) - fields)
  if unknown:
    group = {key: value for key, value in dict(config).items() if key not in unknown}
    raise ValueError(
      f"{role} {name} takes no {', '.join(map(repr, unknown))}. Known arguments in "
      f"config.model.{role}: {', '.join(sorted(fields))}. A flag sets the whole group: "
      f'--config.model.{role}="{group}".'
    )
  arguments = {key: value for key, value in defaults.items() if key in fields}
  arguments |= sizes
  arguments |= options
  try:
    return model(**arguments)
  except TypeError as error:  # A field without a default is missing.
    raise ValueError(f"config.model.{role} with name={name!r} is incomplete: {error}.") from error


def _variant_sizes(
  role: str,
  name: str,
  module: ModuleType,
  variant: str,
) -> Mapping[str, Any]:
  variants = getattr(module, "VARIANTS", {})
  if variant not in list(variants):
    choices = f"one of {', '.join(variants)}" if variants else f"'', as {module.__name__} has none"
    raise ValueError(
      f"{role} {name} has no variant {variant!r}. Set config.model.{role}.variant to {choices}."
    )
  return variants[variant]


def component(role: str, name: object) -> tuple[ModuleType, Any]:
  """(module, class) behind a component's name.

  Raises ValueError if there is no such file, or if a user's module cannot be imported.
  """
  names = available(role)
  choices = f"Set config.model.{role}.name to one of {', '.join(names)}"
  if not isinstance(name, str):
    raise ValueError(f"config.model.{role}.name={name!r} is not a name. {choices}.")
  if ":" in name:  # A user's component, "my_lab.scenes:Model".
    return _own_component(role, name)
  if name not in names:
    raise ValueError(
      f'No file models/{role}s/{name}.py. {choices}, or to your own "package.module:Class".'
    )
  module = importlib.import_module(f"filax.models.{role}s.{name}")
  return module, module.Model


def _own_component(role: str, name: str) -> tuple[ModuleType, Any]:
  """(module, class) of "package.module:Class"."""
  from filax.models import roles

  path, _, attribute = name.partition(":")
  words = [*path.split("."), attribute]
  if not all(word.isidentifier() for word in words):
    raise ValueError(
      f'config.model.{role}.name={name!r} is not a "package.module:Class". Set it to such a name.'
    )
  try:
    module = importlib.import_module(path)
  except ImportError as error:
    raise ValueError(
      f"config.model.{role}.name={name!r} cannot be imported ({error}). Put its package on "
      f"PYTHONPATH, or set config.model.{role}.name to one of {', '.join(available(role))}."
    ) from error
  model = getattr(module, attribute, None)
  if model is None or not hasattr(model, "__dataclass_fields__"):
    reason = f"{attribute} does not inherit from flax.linen.Module"
    if model is None:
      reason = f"{path} has no class {attribute}"
    raise ValueError(
      f"config.model.{role}.name={name!r} names no flax module: {reason}. Set it to "
      '"package.module:Class".'
    )
  missing = roles.missing_members(role, model)
  if missing:
    raise ValueError(
      f"config.model.{role}.name={name!r} lacks {', '.join(missing)}. Let {attribute} inherit from "
      f"filax.models.roles.{roles.PROTOCOLS[role].__name__}, and give it the fields named there."
    )
  return module, model


def check_components(
  config: Any,
  allowed: Sequence[str] | str = (),
  source: str | os.PathLike = "config.json",
) -> None:
  """Checks that a checkpoint's config names only allowed modules.

  A component must be one of FiLax's own files, or part of a module in `allowed` ("my_lab").
  `config` is any value of a JSON file. Nothing is imported. Raises ValueError for any other
  component.
  """
  if isinstance(allowed, str):
    allowed = (allowed,)
  if isinstance(config, list | tuple):
    for part in config:
      check_components(part, allowed, source)
  if not isinstance(config, Mapping):
    return
  for key, part in config.items():
    if key in ROLES and isinstance(part, Mapping) and "name" in part:
      _check_component(key, part["name"], allowed, source)
    check_components(part, allowed, source)


def _check_component(role: str, name: Any, allowed: Sequence[str], source) -> None:
  if isinstance(name, str) and _FILE_NAME.fullmatch(name):
    return
  module = name.partition(":")[0] if isinstance(name, str) else ""
  if not module.partition(".")[0].isidentifier():
    raise ValueError(f"{source} names the {role} {name!r}, which is not a component.")
  if not any(module == root or module.startswith(f"{root}.") for root in allowed):
    raise ValueError(
      f"{source} names the {role} {name!r}, a module that is not part of FiLax. Importing it runs "
      f"its code; if you trust it, allow it with --components {module.partition('.')[0]}."
    )


def available(role: str) -> list[str]:
  """The names of a role's components, from its files."""
  package = importlib.import_module(f"filax.models.{role}s")
  return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def build_video_lm(config: Section, selector: Section | None = None) -> "VideoLM":
  """Builds a VideoLM from config.model.

  config: has one dict per role, merge_stage, encode_chunk, and the dtype and param_dtype of all
    parts that do not set their own.
  selector: replaces the training selector (config.infer.selector).
  """
  from filax.models.video_lm import VideoLM

  options = dict(config)
  absent = [role for role in ROLES if not isinstance(options.get(role), Section)]
  if absent:
    raise ValueError(
      f"config.model has no {' and no '.join(absent)}. Set config.model.{absent[0]} to a dict with "
      f"a name."
    )
  sections = {role: dict(options.pop(role)) for role in ROLES}
  types = {key: options.pop(key, "float32") for key in ("dtype", "param_dtype")}
  llm = build("llm", sections.pop("llm"), **types)
  if selector is not None:
    del sections["selector"]
  parts = {role: build(role, section, out=llm.width, **types) for role, section in sections.items()}
  if selector is not None:
    parts["selector"] = _answering_selector(selector, out=llm.width, **types)
  parts["llm"] = llm
  fields = set(VideoLM.__dataclass_fields__) - {"parent", "name", *ROLES}
  unknown = sorted(set(options) - fields)
  if unknown:
    raise ValueError(f"Unknown key config.model.{unknown[0]}. Known: {', '.join(sorted(fields))}.")
  return VideoLM(**parts, **options)


def _answering_selector(section: Section, **defaults: Any) -> Any:
  """The selector of config.infer, which errors name."""
  try:
    return build("selector", section, **defaults)
  except ValueError as error:
    raise ValueError(str(error).replace("config.model.", "config.infer.")) from error


def parameter_shapes(model) -> dict[str, Any]:
  """The parameters of a VideoLM as a tree of ShapeDtypeStructs.

  No device is used.
  """
  import jax

  return jax.tree.map(lambda leaf: leaf, _shapes(model))  # New dicts for each caller.


@functools.lru_cache(maxsize=64)  # Tracing takes a second, and commands ask repeatedly.
def _shapes(model) -> dict[str, Any]:
  import jax

  from filax.models.kept_shapes import shapes_of

  def draw_parameters(batch):
    return model.init(jax.random.key(0), batch)["params"]

  def trace() -> dict[str, Any]:
    return jax.eval_shape(draw_parameters, model.example())

  return shapes_of(model, trace)


@functools.lru_cache(maxsize=64)
def dense_kernels(model) -> dict[str, "DenseKernel"]:
  """Path -> the kernel of every `Dense` of a VideoLM.

  No device is used.
  """
  from flax import linen as nn
  import jax

  from filax.models.layers import Dense
  from filax.models.lora import KERNEL, DenseKernel, axes_of
  from filax.parallel.rules import leaf_path

  modules = {}

  def note_module(call, args, options, context):
    module = context.module
    if isinstance(module, Dense):
      path = "/".join([*module.path, KERNEL])
      modules[path] = module.clone(parent=None)
    return call(*args, **options)

  def draw_parameters(batch):
    with nn.intercept_methods(note_module):
      return model.init(jax.random.key(0), batch)["params"]

  shapes = jax.eval_shape(draw_parameters, model.example())
  leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
  kernels = {}
  for key_path, leaf in leaves:
    path = leaf_path(key_path)
    if path in modules:
      module = modules[path]
      inputs = len(axes_of(module))
      outputs = 1 if isinstance(module.features, int) else len(module.features)
      kernels[path] = DenseKernel(leaf.shape, inputs, leaf.ndim > inputs + outputs)
  return kernels


def dims_table(config: Section) -> tuple[tuple[str, str], ...]:
  """The DIMS rows of all parts of config.model, prefixed with the role.

  They determine how a VideoLM is sharded.
  """
  rows = []
  for role in ROLES:
    module, _ = component(role, config[role]["name"])
    for pattern, dims in getattr(module, "DIMS", ()):
      rows.append((rf"^{role}/.*{pattern.removeprefix('^')}", dims))
  return tuple(rows)
