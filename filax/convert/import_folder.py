# SPDX-License-Identifier: Apache-2.0
"""PyTorch folders and files -> a FiLax checkpoint, streamed a layer at a time."""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from filax.checkpoint import streamed
from filax.convert import (
  ConversionError,
  config_in,
  safetensors_writer,
  tensor_map,
  tensor_plan,
  torch_files,
  whole_folder,
)
from filax.convert.report import Report
from filax.models import components

PARTS = ("encoder", "llm", "projector", "merger")  # Roles with weights, each with a flag.
EXTRA = "extra.safetensors"  # Imported tensors that only other software uses, kept for the way out.
TOKENIZER_FILES = (  # Of the source, copied beside the checkpoint.
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.json",
  "chat_template.jinja",
  "generation_config.json",
)


@dataclasses.dataclass
class Request:
  """What `filax convert from` was asked for. Paths are folders or files."""

  out: str | os.PathLike
  source: str | os.PathLike | None = None  # A whole model, or one part.
  parts: Mapping[str, str | os.PathLike] = dataclasses.field(default_factory=dict)
  config: Mapping[str, Any] | None = None  # A FiLax config that decides the model.
  base: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # Of the keys beside model.
  sets: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # "llm.theta" -> value.
  dtype: str = "same"  # same | float32 | bfloat16: of the parameters, but for the merger's.
  ignore: Sequence[str] = ()
  tokenizer: Any = None  # data_pipelines.text.tokenizers.Tokenizer, or None.
  components: Sequence[str] = ()  # Modules that a config.json may name.

  def __post_init__(self):
    if self.source is not None:
      self.source = os.path.expanduser(self.source)
    self.parts = {role: os.path.expanduser(path) for role, path in self.parts.items()}


def convert(request: Request, check=None) -> dict[str, Any]:
  """Writes the checkpoint and returns the report; `check(folder, sources, model)` may refuse it.

  Raises ConversionError, ValueError or OSError with nothing left under the name of `out`.
  """
  sources, model = resolve(request)
  roles = components.ROLES if whole(model) else tuple(role for role in model if role in PARTS)
  found = tensor_plan.plan(
    model, sources, roles=roles, fresh=request.config is not None, ignore=request.ignore
  )
  check_tokenizer(request.tokenizer, model)
  config = full_config(request, model, found)
  report = Report(
    "from",
    source=[str(s.path) for s in sources],
    scheme=found.scheme,
    model=model,
    drawn_anew=[place.path for place in found.fresh],
  )
  with whole_folder.complete(request.out, _size(found, request.dtype)) as temporary:
    write(temporary, found, model, config, request.dtype, report)
    _copy_tokenizer(request, sources, temporary)
    if check is not None:
      report.facts["verify"] = check(temporary, sources, model)
    return report.write(temporary)


def resolve(request: Request) -> tuple[list[tensor_plan.Source], dict[str, Any]]:
  """Opens what was given and settles config.model: the config's, or what config.json says."""
  if request.source is None and not request.parts:
    raise ValueError("There is nothing to convert: give --source, or parts such as --llm.")
  check_exist(request)
  given, said = [], {}
  for path, roles in _asked(request):
    says = config_in.load(Path(path), request.components)
    if says and not (request.config and not config_in.family(says)):
      said = {
        role: x
        for role, x in config_in.architecture(says).items()
        if role in roles or (role not in PARTS and path == request.source)
      } | said
    given.append((path, roles))
  model = settle(request, said)
  if not any(role in model for role in PARTS):
    raise ValueError(
      f"There is no config.json beside {given[0][0]} that says what it holds. Give --config, or "
      f"--set ROLE.name=... and --set ROLE.variant=... (roles: {', '.join(PARTS)})."
    )
  sources = []
  for path, roles in given:
    here = tuple(role for role in roles if role in model)
    sources.append(tensor_plan.source(path, here))
  _vocabulary(sources, model)
  return sources, model


def check_exist(request: Request) -> None:
  """Raises FileNotFoundError naming the flag whose file or folder is not there."""
  inputs = {"source": request.source} | dict(request.parts)
  for flag, path in inputs.items():
    if path is not None and not Path(path).exists():
      raise FileNotFoundError(
        f"There is no file or folder {path}. Give --{flag} the weights: a folder, or a file of it."
      )


def _asked(request: Request) -> list[tuple[Any, tuple[str, ...]]]:
  """(path, roles) of every input. A role with a flag of its own is not taken from --source."""
  inputs = [(path, (role,)) for role, path in request.parts.items()]
  if request.source is None:
    return inputs
  says = config_in.load(Path(request.source), request.components)
  alone = {"qwen2": ("llm",), "siglip": ("encoder",)}.get(config_in.family(says), PARTS)
  if not says and request.config is None:
    alone = tuple({key.split(".")[0] for key in request.sets} & set(PARTS)) or alone
  return [*inputs, (request.source, tuple(r for r in alone if r not in request.parts))]


def settle(request: Request, said: Mapping[str, Any]) -> dict[str, Any]:
  """config.model from --config if there is one, checked against config.json; else from that."""
  if request.config is None:
    model = {k: dict(v) if isinstance(v, Mapping) else v for k, v in said.items()}
    _set(model, request.sets)
    config_in.check_complete(model)
    return {k: config_in.named(k, v) if k in components.ROLES else v for k, v in model.items()}
  model = copy.deepcopy(dict(request.config["model"]))
  _set(model, request.sets)
  for role in ("encoder", "llm"):
    if role in said:
      _compare(role, model[role], said[role])
  return model


def _set(model: dict[str, Any], sets: Mapping[str, Any]) -> None:
  """Applies --set, and checks the types of what it and config.json say."""
  for key, value in sets.items():
    role, _, field = key.partition(".")
    if role not in components.ROLES or not field:
      raise ValueError(
        f"--set {key} is not ROLE.FIELD; the roles are {', '.join(components.ROLES)}."
      )
    model.setdefault(role, {})[field] = value
  for role in model.keys() & set(components.ROLES):
    model[role] = config_in.typed(role, model[role])


def _compare(role: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
  """A checkpoint of another architecture than --config says would fail later, or worse, not."""
  if ours["name"] != theirs.get("name", ours["name"]):
    raise ValueError(
      f"--config has the {role} {ours['name']}, but the files hold a {theirs['name']}."
    )
  built = components.build(role, ours, out=1)
  differing = [
    f"{field}={getattr(built, field)} there and {value} in the files"
    for field, value in theirs.items()
    if field not in ("name", "variant", "vocab", "tied", "depth", "remat")
    and getattr(built, field, value) != value
  ]
  if differing:
    raise ValueError(
      f"--config describes another {role} than config.json: {'; '.join(differing)}. Choose another "
      f"variant in the config, or give --set {role}.FIELD=VALUE."
    )


def _vocabulary(sources: Sequence[tensor_plan.Source], model: dict[str, Any]) -> None:
  """Vocabulary rows and the tied head are read off the file: configs and files often differ."""
  for part in sources:
    if "llm" not in part.roles:
      continue
    rows = [
      t.shape[0]
      for name, t in part.tensors.items()
      if name.endswith("embed_tokens.weight") and len(t.shape) == 2
    ]
    llm = components.build("llm", model["llm"])
    if rows and rows[0] != llm.vocab:
      model["llm"]["vocab"] = rows[0]
    has_head = any(name.endswith("lm_head.weight") for name in part.tensors)
    if rows and not llm.tied and not has_head:
      model["llm"]["tied"] = True


def check_tokenizer(tokenizer: Any, model: Mapping[str, Any]) -> None:
  """Raises ValueError if the tokenizer has ids without an embedding."""
  if tokenizer is None or "llm" not in model:
    return
  vocab = components.build("llm", model["llm"]).vocab
  if tokenizer.vocab_size > vocab:
    raise ValueError(
      f"The tokenizer {tokenizer.path} has ids up to {tokenizer.vocab_size - 1}, but the llm has "
      f"{vocab} vocabulary rows. Give --tokenizer the one that belongs to these weights."
    )


def whole(model: Mapping[str, Any]) -> bool:
  return all(role in model for role in components.ROLES)


def full_config(
  request: Request, model: Mapping[str, Any], found: tensor_plan.Plan
) -> dict[str, Any]:
  """The config.json of the checkpoint: --config or the defaults, around this model."""
  config = copy.deepcopy(dict(request.config or request.base))
  config["model"], config["init_from"] = dict(model), ""
  if request.config is None:
    kinds = [leaf_dtype(found, place, request.dtype).name for place in found.places]
    common = max(sorted(set(kinds)), key=kinds.count)  # It is loaded as it is stored.
    config["model"] = dict(dtype=common, param_dtype=common) | config["model"]
    if whole(model):
      config_in.answer_as(config, _says(request))
  if request.tokenizer is not None:
    config.setdefault("data", {})["tokenizer"] = request.tokenizer.filename
  return config


def _says(request: Request) -> Mapping[str, Any]:
  if request.source is None:
    return {}
  return config_in.load(Path(request.source), request.components)


def write(
  out: Path,
  found: tensor_plan.Plan,
  model: Mapping[str, Any],
  config: Mapping[str, Any],
  dtype: str,
  report: Report,
) -> None:
  """Streams a plan into the checkpoint format below `out`. Collects all tensors that hold NaN."""
  writer = streamed.Writer(out, components.dims_table(tensor_plan.SMALL | dict(model)))
  broken: list[str] = []
  for place in report.steps(found.places):
    kind = leaf_dtype(found, place, dtype)
    leaf = writer.leaf(place.path, place.shape, kind, place.stacked)
    for index, tensor, x in tensor_plan.weights(found, place):
      if not torch_files.finite(x):
        broken.append(tensor.name)
      if place.share[0] == 0:
        report.tensor(tensor.name, place.path, x)
      leaf[index] = place.read(x, (slice(None),) * len(place.part)).astype(kind, copy=False)
  if broken:
    raise ConversionError("Some weights are not numbers", {"tensors with NaN or infinity": broken})
  for path, x in draw(config, found.fresh).items():
    writer.leaf(path, x.shape, x.dtype, False)[...] = x
  _write_rest(out, found, model, report)
  writer.close(config)
  (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def leaf_dtype(found: tensor_plan.Plan, place: tensor_map.Place, dtype: str) -> np.dtype:
  """The dtype that a parameter is stored in. The merger stays in float32: its steps are tiny."""
  if dtype == "same" or place.path.startswith("merger/"):
    return found.dtype(place)
  return torch_files.BY_NAME[dtype]


def draw(config: Mapping[str, Any], fresh: Sequence[tensor_map.Place]) -> dict[str, np.ndarray]:
  """New parameters, as training would draw them from config.seed: nothing else is computed."""
  if not fresh:
    return {}
  import jax
  import jax.numpy as jnp

  model = components.build_video_lm(config["model"])
  paths = {place.path for place in fresh}

  def init(key):
    example = jax.tree.map(jnp.asarray, model.example())
    params = streamed.flat(model.init(key, example)["params"])
    return {path: x for path, x in params.items() if path in paths}

  drawn = jax.jit(init)(jax.random.key(config.get("seed", 0)))
  return {path: np.asarray(x) for path, x in sorted(drawn.items())}


def _write_rest(out: Path, found: tensor_plan.Plan, model, report: Report) -> None:
  """Lists unused tensors, and keeps those that an export would otherwise make up."""
  wanted = {
    f"{role}.{name}"
    for role in PARTS
    if role in model
    for name, _, _ in tensor_map.part(role, model[role]["name"]).extra
  }
  kept = {}
  for name, reason, tensor in found.unused:
    report.unused(tensor.name, reason, tensor.shape)
    if name in wanted and tensor.dtype is not None:
      kept[name] = tensor[...,]
  if kept:
    safetensors_writer.write(out / EXTRA, kept)


def _size(found: tensor_plan.Plan, dtype: str) -> int:
  numbers = [(np.prod(p.shape, dtype=np.int64), leaf_dtype(found, p, dtype)) for p in found.places]
  return int(sum(count * kind.itemsize for count, kind in numbers))


def _copy_tokenizer(request: Request, sources: Sequence[tensor_plan.Source], out: Path) -> None:
  """The source's tokenizer files beside the checkpoint, and the tokenizer that was asked for."""
  for part in sources:
    here = part.path if part.path.is_dir() else part.path.parent
    if "llm" in part.roles:
      for name in TOKENIZER_FILES:
        if (here / name).is_file():
          shutil.copy(here / name, out / name)
  if request.tokenizer is not None:
    request.tokenizer.save(out)
