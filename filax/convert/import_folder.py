# SPDX-License-Identifier: Apache-2.0
"""Imports PyTorch folders and files into a FiLax checkpoint.

It works layer by layer.
"""

from collections.abc import Callable, Mapping, Sequence
import copy
import dataclasses
import json
import math
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from filax.checkpoint import streamed
from filax.checkpoint.tree import flatten_tree
from filax.convert import (
  ConversionError,
  config_in,
  safetensors_writer,
  tensor_map,
  tensor_plan,
  torch_files,
)
from filax.convert.export_template import TURN_START
from filax.convert.import_inputs import PARTS, ImportRequest, open_inputs
from filax.convert.output_folder import EXTRA_FILE, TOKENIZER_FILES, create_output_folder
from filax.convert.report import ConversionReport
from filax.convert.tensor_map import TensorMapping
from filax.convert.tensor_plan import TensorPlan, WeightSource
from filax.models import components

_WRONG_TOKENIZER = "Give --tokenizer the one that belongs to these weights."


def import_checkpoint(
  request: ImportRequest,
  verify: Callable[[Path, Sequence[WeightSource], Mapping[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
  """Writes the checkpoint and returns the report.

  `verify(folder, sources, model)` may reject the result. Raises ConversionError, ValueError or
  OSError, and then leaves nothing under the name `out`.
  """
  sources, model = open_inputs(request)
  if "llm" not in model:  # SigLIP's own tokenizer is that of its text tower.
    request = dataclasses.replace(request, tokenizer=None)
  roles = tuple(role for role in model if role in PARTS)
  if is_complete(model):
    roles = components.ROLES
  may_be_fresh = request.config is not None
  plan = tensor_plan.plan_tensors(
    model, sources, roles=roles, fresh=may_be_fresh, ignore=request.ignore
  )
  if request.tokenizer is not None:
    rows = components.build("llm", model["llm"]).vocab
    request.tokenizer.check_rows(rows, _WRONG_TOKENIZER)
  config = checkpoint_config(request, model, plan)
  report = ConversionReport(
    "from",
    source=[str(source.path) for source in sources],
    scheme=plan.schemes,
    model=model,
    drawn_anew=[mapping.path for mapping in plan.fresh],
  )
  size = _stored_bytes(plan, request.dtype)
  with create_output_folder(request.out, size, request.knob) as temporary:
    _write_checkpoint(temporary, plan, model, config, request.dtype, report)
    _copy_tokenizer(temporary, sources, request.tokenizer)
    if verify is not None:
      report.facts["verify"] = verify(temporary, sources, model)
    return report.write_report(temporary)


def is_complete(model: Mapping[str, Any]) -> bool:
  """Whether config.model has every role."""
  return all(role in model for role in components.ROLES)


def checkpoint_config(
  request: ImportRequest,
  model: Mapping[str, Any],
  plan: TensorPlan,
) -> dict[str, Any]:
  """The config.json of the checkpoint.

  The config of --config, or the defaults, with this model.
  """
  config = copy.deepcopy(dict(request.config or request.base))
  config["model"] = dict(model)
  config["init_from"] = ""
  if request.config is None:
    dtypes = [stored_dtype(plan, mapping, request.dtype) for mapping in plan.mappings]
    dtype = torch_files.main_dtype(dtypes).name  # Weights are loaded as stored.
    config["model"] = dict(dtype=dtype, param_dtype=dtype) | config["model"]
    if is_complete(model):
      config_in.set_answer_settings(config, request.source_config())
  if request.tokenizer is not None:
    data = config.setdefault("data", {})
    data["tokenizer"] = request.tokenizer.filename
    if request.config is None and data.get("template") == "chatml":
      data |= _own_writing(request.tokenizer, is_alone=not is_complete(model))
  return config


def _own_writing(tokenizer: Any, is_alone: bool) -> dict[str, str]:
  """What the tokenizer's chat template changes in config.data.

  A vocabulary without the control tokens of ChatML, as that of Llama 3, needs the template itself.
  is_alone: a language model alone was trained with the template. If it is ChatML, its system turn
  may be another; if it is not, the template itself is needed.
  """
  if tokenizer.chat is None:
    return {}
  if TURN_START not in tokenizer.controls:
    return dict(template="chat", system="")  # The template's own system turn, if it has one.
  if not is_alone:
    return {}
  system = tokenizer.chat.own_system()
  if system is not None:
    return dict(system=system)
  return dict(template="chat", system="") if tokenizer.chat.writes_questions() else {}


def _write_checkpoint(
  out: Path,
  plan: TensorPlan,
  model: Mapping[str, Any],
  config: Mapping[str, Any],
  dtype: str,
  report: ConversionReport,
) -> None:
  """Streams a plan into the checkpoint format below `out`.

  Collects all tensors with NaN or infinity before it raises.
  """
  table = components.dims_table(tensor_plan.SMALLEST_MODEL | dict(model))
  writer = streamed.ParameterWriter(out, table)
  not_finite: list[str] = []
  for mapping in report.count_on_terminal(plan.mappings):
    parameter_dtype = stored_dtype(plan, mapping, dtype)
    leaf = writer.leaf(mapping.path, mapping.shape, parameter_dtype, mapping.stacked)
    everything = (slice(None),) * len(mapping.layer_shape)
    for index, tensor, x in tensor_plan.read_tensors(plan, mapping):
      if not torch_files.all_finite(x):
        not_finite.append(tensor.name)
      if mapping.share[0] == 0:
        report.add_tensor(tensor.name, mapping.path, x)
      layer = mapping.read_layer(x, everything)
      leaf[index] = layer.astype(parameter_dtype, copy=False)
  if not_finite:
    problems = {"tensors with NaN or infinity": not_finite}
    raise ConversionError("Some weights are not numbers", problems)
  for path, x in draw_parameters(config, plan.fresh).items():
    writer.leaf(path, x.shape, x.dtype, False)[...] = x
  _write_unused(out, plan, model, report)
  writer.finish(config)
  (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def stored_dtype(plan: TensorPlan, mapping: TensorMapping, dtype: str) -> np.dtype:
  """The dtype in which a parameter is stored.

  The merger stays in float32: its steps are tiny.
  """
  if dtype == "same" or mapping.role == "merger":
    return plan.parameter_dtype(mapping)
  return torch_files.DTYPE_BY_NAME[dtype]


def draw_parameters(
  config: Mapping[str, Any],
  fresh: Sequence[TensorMapping],
) -> dict[str, np.ndarray]:
  """New parameters, drawn from config.seed as in training.

  Nothing else is computed.
  """
  if not fresh:
    return {}
  import jax
  import jax.numpy as jnp

  model = components.build_video_lm(config["model"])
  paths = {mapping.path for mapping in fresh}

  def draw_fresh(key):
    example = jax.tree.map(jnp.asarray, model.example())
    params = flatten_tree(model.init(key, example)["params"])
    return {path: x for path, x in params.items() if path in paths}

  drawn = jax.jit(draw_fresh)(jax.random.key(config.get("seed", 0)))
  return {path: np.asarray(x) for path, x in sorted(drawn.items())}


def _write_unused(
  out: Path,
  plan: TensorPlan,
  model: Mapping[str, Any],
  report: ConversionReport,
) -> None:
  """Lists unused tensors, and stores those needed for an export."""
  extra_names = set()
  for role in PARTS:
    if role in model:
      tables = tensor_map.component_tables(role, model[role]["name"])
      for name, _, _ in tables.extra:
        extra_names.add(f"{role}.{name}")
  extra = {}
  for name, reason, tensor in plan.unused:
    report.add_unused(tensor.name, reason, tensor.shape)
    if name in extra_names and tensor.dtype is not None:
      extra[name] = tensor.read_all()
  if extra:
    safetensors_writer.write_safetensors(out / EXTRA_FILE, extra)


def _stored_bytes(plan: TensorPlan, dtype: str) -> int:
  size = 0
  for mapping in plan.mappings:
    size += math.prod(mapping.shape) * stored_dtype(plan, mapping, dtype).itemsize
  return size


def _copy_tokenizer(out: Path, sources: Sequence[WeightSource], tokenizer: Any) -> None:
  """Copies the llm's tokenizer files, and writes `tokenizer` if there is one."""
  for source in sources:
    if "llm" not in source.roles:
      continue
    folder = source.path if source.path.is_dir() else source.path.parent
    for name in TOKENIZER_FILES:
      if (folder / name).is_file():
        shutil.copy(folder / name, out / name)
  if tokenizer is not None:
    tokenizer.save(out)
