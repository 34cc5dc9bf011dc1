# SPDX-License-Identifier: Apache-2.0
"""The inputs of an import: roles per folder, and config.model."""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

from filax.convert import component_fields, config_in, llm_config_in, tensor_plan
from filax.convert.tensor_plan import WeightSource
from filax.models import components

PARTS = ("encoder", "llm", "projector", "merger")  # Roles with weights, each with a flag.


@dataclasses.dataclass
class ImportRequest:
  """The options of `filax convert from`. Paths are folders or files."""

  out: str | os.PathLike
  source: str | os.PathLike | None = None  # A whole model, or one part.
  parts: Mapping[str, str | os.PathLike] = dataclasses.field(default_factory=dict)
  config: Mapping[str, Any] | None = None  # A FiLax config that defines the model.
  base: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # Values of the other keys.
  sets: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # "llm.theta" -> value.
  dtype: str = "same"  # same | float32 | bfloat16: of all parameters but the merger's.
  ignore: Sequence[str] = ()
  tokenizer: Any = None  # data_pipelines.text.tokenizers.Tokenizer, or None.
  components: Sequence[str] = ()  # Modules that a config.json may name.
  knob: str = "--out"  # What chooses `out`, for errors.

  def __post_init__(self):
    if self.source is not None:
      self.source = os.path.expanduser(self.source)
    self.parts = {role: os.path.expanduser(path) for role, path in self.parts.items()}

  def source_config(self) -> dict[str, Any]:
    """The config.json of --source; {} without one."""
    if self.source is None:
      return {}
    return config_in.read_config_json(Path(self.source), self.components)


def open_inputs(request: ImportRequest) -> tuple[list[WeightSource], dict[str, Any]]:
  """The opened inputs and config.model.

  config.model comes from --config, or from the config.json of the inputs. Raises ValueError or
  OSError if an input is missing or does not fit the others.
  """
  if request.source is None and not request.parts:
    raise ValueError("There is nothing to convert: give --source, or parts such as --llm.")
  _check_inputs_exist(request)
  inputs = _roles_of_inputs(request)
  described: dict[str, Any] = {}  # config.model according to the inputs' config.json.
  for path, roles in inputs:
    described = _described_parts(request, path, roles) | described
  model = settle_model(request, described)
  if not any(role in model for role in PARTS):
    first_path, _ = inputs[0]
    raise ValueError(
      f"There is no config.json beside {first_path} that says what it holds. Give --config, or "
      f"--set ROLE.name=... and --set ROLE.variant=... (roles: {', '.join(PARTS)})."
    )
  sources = []
  for path, roles in inputs:
    modelled = tuple(role for role in roles if role in model)
    sources.append(tensor_plan.open_source(path, modelled))
  stated = described.get("llm", {}).get("tied")
  _adopt_vocabulary(sources, model, may_tie=request.sets.get("llm.tied", stated) is not False)
  return sources, model


def _check_inputs_exist(request: ImportRequest) -> None:
  """Raises FileNotFoundError naming the flag of a missing input."""
  inputs = {"source": request.source} | dict(request.parts)
  for flag, path in inputs.items():
    if path is not None and not Path(path).exists():
      raise FileNotFoundError(
        f"There is no file or folder {path}. Give --{flag} the weights: a folder of this machine, "
        "or a file of it. A model of the Hugging Face hub is downloaded first: hf download "
        "ORG/NAME --local-dir FOLDER"
      )


def _roles_of_inputs(request: ImportRequest) -> list[tuple[Any, tuple[str, ...]]]:
  """(path, roles) of every input.

  A role with its own flag is not taken from --source.
  """
  inputs: list[tuple[Any, tuple[str, ...]]] = []
  for role, path in request.parts.items():
    inputs.append((path, (role,)))
  if request.source is not None:
    roles = [role for role in _source_roles(request) if role not in request.parts]
    inputs.append((request.source, tuple(roles)))
  return inputs


def _source_roles(request: ImportRequest) -> Sequence[str]:
  """The roles that --source may hold.

  From its config.json, otherwise from --set, otherwise all.
  """
  config = request.source_config()
  family = config_in.config_family(config)
  if family in llm_config_in.FAMILIES:
    return ("llm",)
  if family == "siglip":
    return ("encoder",)
  if config or request.config is not None:
    return PARTS
  set_roles = []
  for key in request.sets:
    role = key.split(".")[0]
    if role in PARTS and role not in set_roles:
      set_roles.append(role)
  return set_roles or PARTS


def _described_parts(
  request: ImportRequest,
  path: Any,
  roles: Sequence[str],
) -> dict[str, Any]:
  """config.model of one input's roles, from its config.json."""
  config = config_in.read_config_json(Path(path), request.components)
  if not config or (request.config and not config_in.config_family(config)):
    return {}
  described = config_in.architecture(config)
  parts = {}
  for key, value in described.items():
    if key in roles or (key not in PARTS and path == request.source):
      parts[key] = value
  for role in ("encoder", "llm"):
    if roles == (role,) and role not in described:
      present = " and ".join(part for part in PARTS if part in described)
      raise ValueError(f"--{role} {path} holds no {role}: its config.json describes {present}.")
  return parts


def settle_model(request: ImportRequest, described: Mapping[str, Any]) -> dict[str, Any]:
  """config.model from --config, or from config.json.

  A config from --config is checked against config.json. Raises ValueError if the two differ, or if
  a size is missing.
  """
  if request.config is not None:
    model = copy.deepcopy(dict(request.config["model"]))
    _apply_sets(model, request.sets)
    for role in ("encoder", "llm"):
      if role in described:
        _check_same_architecture(role, model[role], described[role])
    return model
  model = {}
  for key, value in described.items():
    model[key] = dict(value) if isinstance(value, Mapping) else value
  _apply_sets(model, request.sets)
  component_fields.check_complete(model)
  for role in components.ROLES:
    if role in model:
      model[role] = component_fields.with_variant_name(role, model[role])
  return model


def _apply_sets(model: dict[str, Any], sets: Mapping[str, Any]) -> None:
  """Applies --set, and checks the types of all values."""
  for key, value in sets.items():
    role, _, field = key.partition(".")
    if role not in components.ROLES or not field:
      raise ValueError(
        f"--set {key} is not ROLE.FIELD; the roles are {', '.join(components.ROLES)}."
      )
    model.setdefault(role, {})[field] = value
  for role in components.ROLES:
    if role in model:
      model[role] = component_fields.with_types(role, model[role])


def _check_same_architecture(
  role: str,
  ours: Mapping[str, Any],
  theirs: Mapping[str, Any],
) -> None:
  """Raises ValueError if --config has another architecture than the files.

  Such a checkpoint would fail later, or silently give wrong results.
  """
  if ours["name"] != theirs.get("name", ours["name"]):
    raise ValueError(
      f"--config has the {role} {ours['name']}, but the files hold a {theirs['name']}."
    )
  component = components.build(role, ours, out=1)
  differing = []
  for field, value in theirs.items():
    if field in ("name", "variant", "vocab", "tied", "depth", "remat"):
      continue
    configured = getattr(component, field, value)
    if configured != value:
      differing.append(f"{field}={configured} there and {value} in the files")
  if differing:
    raise ValueError(
      f"--config describes another {role} than config.json: {'; '.join(differing)}. Choose another "
      f"variant in the config, or give --set {role}.FIELD=VALUE."
    )


def _adopt_vocabulary(
  sources: Sequence[WeightSource], model: dict[str, Any], may_tie: bool
) -> None:
  """Reads vocabulary rows and the tied head from the file.

  Configs and files often differ in them. may_tie: whether nobody says that the head is not the
  embedding. Raises ValueError if it is not, and no file holds it.
  """
  for source in sources:
    if "llm" not in source.roles:
      continue
    rows = _embedding_rows(source)
    if rows is None:
      continue
    llm = components.build("llm", model["llm"])
    if rows != llm.vocab:
      model["llm"]["vocab"] = rows
    has_head = any(name.endswith("lm_head.weight") for name in source.tensors)
    if llm.tied or has_head:
      continue
    if not may_tie:
      raise ValueError(
        f"{source.path} holds no lm_head.weight, but tie_word_embeddings is false: a file of the "
        "model is missing. If the head is the embedding after all, give --set llm.tied=True."
      )
    model["llm"]["tied"] = True


def _embedding_rows(source: WeightSource) -> int | None:
  for name, tensor in source.tensors.items():
    if name.endswith("embed_tokens.weight") and len(tensor.shape) == 2:
      return tensor.shape[0]
  return None
