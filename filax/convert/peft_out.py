# SPDX-License-Identifier: Apache-2.0
"""Adapters of a checkpoint as a folder that PEFT loads.

  adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r in], .lora_B.weight [out r]
  adapter_config.json         rank, alpha and target modules

<module> is the module's name in the PyTorch model to which the adapters belong: that of
`filax convert to` for the base. vLLM reads the same names.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import re
from typing import Any

import numpy as np

from filax.checkpoint import streamed
from filax.checkpoint.parameter_reader import ParameterReader
from filax.checkpoint.tuples import as_tuples
from filax.convert import ConversionError, file_names, safetensors_writer, tensor_map, tensor_plan
from filax.convert.output_folder import create_output_folder
from filax.convert.report import ConversionReport
from filax.convert.tensor_map import TensorMapping
from filax.models import components, lora

PREFIX = "base_model.model."
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


@dataclasses.dataclass(frozen=True)
class AdaptedModules:
  """The modules of one adapted kernel: one a layer."""

  mapping: TensorMapping
  modules: tuple[str, ...]  # Names in the PyTorch model.
  a: np.ndarray  # [layers in r] or [1 in r]
  b: np.ndarray  # [layers r out]
  alphas: tuple[float, ...]  # One a module.

  @property
  def rank(self) -> int:
    """The rank of its adapters."""
    return self.a.shape[-1]


def module_scheme(model: Mapping[str, Any], llm_alone: bool) -> file_names.NamingScheme:
  """Names of modules in the PyTorch model of a checkpoint.

  LLaVA-OneVision of transformers, VideoChat-Flash, or the language model alone.
  """
  if llm_alone or "encoder" not in model:
    return file_names.LANGUAGE_MODEL
  name = model["encoder"]["name"]
  return file_names.C if name == "siglip" else file_names.flash_scheme(name)


def export_adapters(
  checkpoint: str, out: str, allowed: Sequence[str] = (), llm_alone: bool = False
) -> dict[str, Any]:
  """Writes the adapters of a checkpoint for PEFT and returns the report.

  allowed: modules that its config may name. llm_alone: names of the language model's own class.
  Raises ValueError for a checkpoint without adapters, ConversionError for adapters that PEFT cannot
  hold.
  """
  step = streamed.step_folder(checkpoint)
  config = as_tuples(streamed.read_json(step, "config"))
  components.check_components(config, allowed, f"The config of {step}")
  model = config["model"]
  reader = ParameterReader(step)
  if not reader.adapted:
    raise ValueError(f"{step} has no adapters. Choose another --format, which takes whole models.")
  scheme = module_scheme(model, llm_alone)
  _check_nothing_else_trained(reader, model, llm_alone)
  adapted = _adapted_modules(reader, model, scheme)
  tensors = adapter_tensors(adapted)
  report = ConversionReport(
    "to", checkpoint=str(checkpoint), format="peft", scheme=scheme.name, model=model
  )
  size = sum(x.nbytes for x in tensors.values())
  with create_output_folder(out, size) as temporary:
    safetensors_writer.write_safetensors(temporary / WEIGHTS_FILE, tensors, dict(format="pt"))
    for name, x in tensors.items():
      report.add_tensor(name, "", x)
    every_module = _dense_modules(reader, model, scheme)
    document = adapter_config(adapted, every_module, str(config.get("init_from", "")))
    (temporary / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n")
    return report.write_report(temporary)


def _check_nothing_else_trained(
  reader: ParameterReader, model: Mapping[str, Any], llm_alone: bool
) -> None:
  """Refuses parameters beside the adapters.

  Raises ConversionError listing those that belong to the PyTorch model.
  """
  roles = ("llm",) if llm_alone or "encoder" not in model else PARTS_WITH_MODULES
  whole = {path: leaf for path, leaf in reader.stored.items() if not lora.is_adapter(path)}
  lost = sorted(tensor_plan.leaves_of_roles(whole, roles))
  if lost:
    raise ConversionError(
      "The checkpoint holds parameters beside its adapters, for which a folder of PEFT has no "
      "place. Export merged weights (--format hf and others), which hold them all",
      {"beside the adapters": lost},
    )


def _mappings(
  reader: ParameterReader, model: Mapping[str, Any], paths: Sequence[str]
) -> list[TensorMapping]:
  vocab = components.build("llm", model["llm"]).vocab if model.get("llm") else 0
  shapes = {path: reader.leaves[path] for path in paths}
  return tensor_map.map_parameters(model, shapes, vocab)


def _adapted_modules(
  reader: ParameterReader, model: Mapping[str, Any], scheme: file_names.NamingScheme
) -> list[AdaptedModules]:
  """The adapted kernels with their values.

  Raises ConversionError listing kernels without such a module.
  """
  adapted = []
  refused = []
  for mapping in _mappings(reader, model, reader.adapted):
    a, b, scale = reader.adapters(mapping.path)
    modules = _modules(mapping, scheme)
    if modules is None or not _is_linear(mapping, a):
      refused.append(mapping.path)
      continue
    rank = a.shape[-1]
    layers = len(modules)
    alphas = _alphas(scale, rank, layers)
    flat_a = a.reshape(layers, -1, rank)
    flat_b = b.reshape(layers, rank, -1)
    adapted.append(AdaptedModules(mapping, modules, flat_a, flat_b, alphas))
  if refused:
    raise ConversionError(
      "Some adapters have no module of their own in the PyTorch model. Export merged weights "
      "(--format hf and others), which hold them all",
      {"kernels": refused},
    )
  return adapted


def _alphas(scale: np.ndarray, rank: int, layers: int) -> tuple[float, ...]:
  """The alpha of every layer, without the rounding errors of float32."""
  scales = np.broadcast_to(np.ravel(scale), layers)
  return tuple(float(f"{value * rank:.6g}") for value in scales.astype(float))


def _modules(mapping: TensorMapping, scheme: file_names.NamingScheme) -> tuple[str, ...] | None:
  """The module of every layer; None without modules of its own."""
  if mapping.share != (0, 1):
    return None
  modules = []
  for canonical in mapping.names:
    name = scheme.file_name(canonical)
    if name is None or not name.endswith(".weight"):
      return None
    modules.append(name.removesuffix(".weight"))
  return tuple(modules)


def _is_linear(mapping: TensorMapping, a: np.ndarray) -> bool:
  """Whether the tensor is [outputs, inputs], in the order of our dimensions."""
  inputs = a.ndim - 1 - (1 if mapping.stacked else 0)
  ours = mapping.layout.ours
  return mapping.layout.theirs == (ours[inputs:], ours[:inputs])


def _dense_modules(
  reader: ParameterReader, model: Mapping[str, Any], scheme: file_names.NamingScheme
) -> set[str]:
  """The names of all linear modules of the PyTorch model."""
  kernels = [path for path in reader.leaves if path.endswith("/kernel")]
  kernels = [path for path in kernels if tensor_plan.leaves_of_roles({path: 0}, PARTS_WITH_MODULES)]
  modules: set[str] = set()
  for mapping in _mappings(reader, model, kernels):
    modules.update(_modules(mapping, scheme) or ())
  return modules


PARTS_WITH_MODULES = ("encoder", "projector", "llm")


def adapter_tensors(adapted: Sequence[AdaptedModules]) -> dict[str, np.ndarray]:
  """Name in the file -> tensor, in float32."""
  tensors = {}
  for kernel in adapted:
    for layer, module in enumerate(kernel.modules):
      tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(kernel.a[layer].T)
      tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(kernel.b[layer].T)
  return tensors


def adapter_config(
  adapted: Sequence[AdaptedModules], every_module: set[str], base: str
) -> dict[str, Any]:
  """The content of adapter_config.json.

  every_module: linear modules of the whole model; the pattern of targets must match no other one.
  """
  modules: list[str] = []
  for kernel in adapted:
    modules.extend(kernel.modules)
  ranks = [kernel.rank for kernel in adapted]
  alphas: list[float] = []
  for kernel in adapted:
    alphas.extend(kernel.alphas)
  rank = max(set(ranks), key=ranks.count)
  alpha = max(set(alphas), key=alphas.count)
  rank_pattern = {}
  alpha_pattern = {}
  for kernel in adapted:
    for module, module_alpha in zip(kernel.modules, kernel.alphas, strict=True):
      if kernel.rank != rank:
        rank_pattern[re.escape(module)] = kernel.rank
      if module_alpha != alpha:
        alpha_pattern[re.escape(module)] = module_alpha
  return dict(
    peft_type="LORA",
    task_type="CAUSAL_LM",
    base_model_name_or_path=base,
    inference_mode=True,
    bias="none",
    r=rank,
    lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
    lora_dropout=0.0,
    fan_in_fan_out=False,
    use_rslora=False,
    rank_pattern=rank_pattern,
    alpha_pattern=alpha_pattern,
    target_modules=target_modules(modules, every_module),
  )


def target_modules(adapted: Sequence[str], every_module: set[str]) -> list[str]:
  """The adapted modules, by last words if these name no others."""
  words = {module.rpartition(".")[2] for module in adapted}
  named = {module for module in every_module if module.rpartition(".")[2] in words}
  return sorted(words) if named == set(adapted) else sorted(adapted)
