# SPDX-License-Identifier: Apache-2.0
"""A folder of PEFT adapters as a checkpoint of adapters, over a base that FiLax has."""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import json
import math
import os
from pathlib import Path
import re
import shutil
from typing import Any

from etils import epath
import numpy as np

from filax.checkpoint import base, safe_files, store, streamed
from filax.checkpoint.parameter_reader import ParameterReader
from filax.checkpoint.tuples import as_tuples
from filax.convert import ConversionError, file_names, tensor_map, torch_files
from filax.convert.output_folder import TOKENIZER_FILES, create_output_folder
from filax.convert.peft_out import CONFIG_FILE, PREFIX, WEIGHTS_FILE
from filax.convert.report import ConversionReport
from filax.convert.tensor_map import TensorMapping
from filax.models import components, lora

_PART = re.compile(re.escape(PREFIX) + r"(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
# Settings with which a module computes something else than W x + scale B A x.
_REFUSED = (
  *("use_dora", "fan_in_fan_out", "modules_to_save", "lora_bias", "layer_replication"),
  *("alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config"),
)
# Values of init_lora_weights that change the weights of the base when PEFT loads the adapters.
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
_OF_LLAVA = "non_lora_trainables.bin"  # LLaVA's file of what it trains beside adapters.

Parts = dict[str, dict[str, Any]]  # Canonical name of a weight -> "A" and "B", tensors of a file.


def is_peft(source: str | os.PathLike | None) -> bool:
  """Whether a folder holds adapters of PEFT."""
  return source is not None and (Path(source) / CONFIG_FILE).is_file()


def import_adapters(
  source: str, out: str, base_folder: str, allowed: Sequence[str] = ()
) -> dict[str, Any]:
  """Writes a checkpoint of the adapters in `source`.

  Returns the report.

  base_folder: a run, one of its checkpoints, or a converted folder; its step is pinned. allowed:
  modules that its config may name. Raises ValueError and ConversionError for adapters that do not
  fit.
  """
  folder = Path(source)
  step = store.newest_step(base_folder)
  settings = _read_settings(folder / CONFIG_FILE)
  config = as_tuples(streamed.read_json(step, "config"))
  components.check_components(config, allowed, f"The config of {step}")
  if (folder / _OF_LLAVA).exists():
    raise ValueError(
      f"{folder} holds {_OF_LLAVA} beside its adapters: parts that were trained in full, which "
      "would be lost. Merge them into their model in PyTorch, and convert that."
    )
  reader = ParameterReader(step)
  mappings = _mappings(config["model"], reader)
  parts, modules = _read_parts(folder, mappings)
  scales = _Scales(settings, modules)
  report = ConversionReport("from", source=[str(folder)], model=config["model"])
  with create_output_folder(out) as temporary:
    writer = streamed.ParameterWriter(temporary, components.dims_table(config["model"]))
    ranks = []
    for mapping in mappings:
      rank = _write_adapters(writer, mapping, parts, scales, report)
      if rank:
        ranks.append((f"^{re.escape(mapping.path)}$", rank))
    config = _adapter_config(config, settings, ranks, step)
    writer.finish(config, base.refer(step))
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _copy_tokenizer(step, temporary)
    written = report.write_report(temporary)
  base.pin(step, out)
  return written


def _read_settings(file: Path) -> dict[str, Any]:
  """The adapter_config.json of PEFT.

  Raises ValueError for one that cannot be read, and for another kind than plain LoRA.
  """
  try:
    settings = safe_files.read_json(file)
  except ValueError as error:
    raise ValueError(f"{file} is not readable JSON: {error}.") from None
  if not isinstance(settings, dict):
    raise ValueError(f"{file} holds a {type(settings).__name__}, not an object of settings.")
  kind = settings.get("peft_type")
  if kind != "LORA":
    raise ValueError(f"{CONFIG_FILE} says peft_type={kind}. Only LORA can be converted.")
  for name in _REFUSED:
    if settings.get(name):
      raise ValueError(f"{CONFIG_FILE} says {name}={settings[name]}, which FiLax does not have.")
  first_values = settings.get("init_lora_weights")
  if isinstance(first_values, str) and first_values.lower().startswith(_CHANGES_BASE):
    raise ValueError(
      f"{CONFIG_FILE} says init_lora_weights={first_values}: PEFT changes the weights of the base "
      "when it loads these adapters. Merge them in PyTorch, and convert the merged model."
    )
  _check_alpha("lora_alpha", settings.get("lora_alpha"))
  alphas = settings.get("alpha_pattern") or {}
  if not isinstance(alphas, dict):
    raise ValueError(f"{CONFIG_FILE} says alpha_pattern={alphas!r}, which is not an object.")
  for pattern, alpha in alphas.items():
    _check_alpha(f"alpha_pattern {pattern!r}", alpha)
    try:
      re.compile(pattern)
    except re.error as error:
      raise ValueError(
        f"{CONFIG_FILE} has the alpha_pattern {pattern!r}, which is not a regular expression: "
        f"{error}."
      ) from None
  return settings


def _check_alpha(name: str, alpha: Any) -> None:
  """Raises ValueError for anything but a positive number."""
  if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
    raise ValueError(f"{CONFIG_FILE} says {name}={alpha!r}, which is not a positive number.")


def _mappings(model: Mapping[str, Any], reader: ParameterReader) -> list[TensorMapping]:
  """The mapping of every kernel of the base that may be adapted."""
  video_lm = components.build_video_lm(model)
  kernels = components.dense_kernels(video_lm)
  shapes = {path: reader.leaves[path] for path in kernels if not path.startswith("merger/")}
  return tensor_map.map_parameters(model, shapes, components.build("llm", model["llm"]).vocab)


def _read_parts(folder: Path, mappings: Sequence[TensorMapping]) -> tuple[Parts, dict[str, str]]:
  """The tensors by canonical name, and the PyTorch module of each name.

  Raises ConversionError listing those that belong to no kernel.
  """
  tensors = torch_files.open_safetensors(folder / WEIGHTS_FILE)
  wanted: set[str] = set()
  for mapping in mappings:
    if mapping.share == (0, 1):
      wanted.update(mapping.names)
  weights = [f"{match['module']}.weight" for match in map(_PART.fullmatch, tensors) if match]
  scheme = file_names.detect_scheme(weights, wanted)
  parts: Parts = {}
  modules = {}
  unknown = []
  for name, tensor in tensors.items():
    match = _PART.fullmatch(name)
    canonical = match and scheme.canonical(f"{match['module']}.weight")
    if match is None or canonical not in wanted:
      unknown.append(name)
      continue
    parts.setdefault(canonical, {})[match["part"]] = tensor
    modules[canonical] = match["module"]
  unpaired = [name for name, pair in parts.items() if len(pair) != 2]
  if unknown or unpaired:
    raise ConversionError(
      f"The adapters of {folder} do not fit the base",
      {"of no kernel": unknown, "without their other half": unpaired},
    )
  return parts, modules


def _write_adapters(
  writer: streamed.ParameterWriter,
  mapping: TensorMapping,
  parts: Parts,
  scales: "_Scales",
  report: ConversionReport,
) -> int:
  """Writes the adapters of a kernel; returns its rank, or 0.

  Layers without adapters get zeros, and the scale of the first layer that has some.
  """
  present = [name for name in mapping.names if name in parts]
  if not present:
    return 0
  rank = parts[present[0]]["A"].shape[0]
  inputs = _input_count(mapping, parts[present[0]]["A"].shape[1])
  stack = mapping.shape[:1] if mapping.stacked else ()
  kernel = lora.DenseKernel(mapping.shape, inputs, mapping.stacked)
  shapes = lora.adapter_shapes(kernel, rank)
  layers = len(mapping.names)
  a = np.zeros((layers, math.prod(kernel.input_shape), rank), np.float32)
  b = np.zeros((layers, rank, math.prod(kernel.output_shape)), np.float32)
  scale = np.full(layers, scales.of(present[0], rank), np.float32)
  for number, name in enumerate(mapping.names):
    if name not in parts:
      continue
    _check_shapes(mapping, parts[name], (rank, a.shape[1]), (b.shape[2], rank))
    a[number] = parts[name]["A"].read_all().T
    b[number] = parts[name]["B"].read_all().T
    scale[number] = scales.of(name, rank)
    for part, tensor in parts[name].items():
      report.add_tensor(f"{name}.lora_{part}", mapping.path, tensor.read_all())
  values = {lora.A: a, lora.B: b, lora.SCALE: scale}
  for leaf_name, shape in shapes.items():
    path = lora.adapter_name(mapping.path, leaf_name)
    leaf = writer.leaf(path, shape.shape, np.float32, bool(stack) and leaf_name != lora.SCALE)
    leaf[...] = values[leaf_name].reshape(shape.shape)
  return rank


def _check_shapes(
  mapping: TensorMapping, pair: Mapping[str, Any], of_a: tuple[int, int], of_b: tuple[int, int]
) -> None:
  """Raises ValueError for adapters of another size than the kernel's."""
  if pair["A"].shape[0] != of_a[0]:
    raise ValueError(f"{mapping.path} has adapters of several ranks, which cannot be stacked.")
  if (pair["A"].shape, pair["B"].shape) != (of_a, of_b):
    raise ValueError(
      f"The adapters of {mapping.path} are {pair['A'].shape} and {pair['B'].shape}, but its kernel "
      f"takes {of_a} and {of_b}: they belong to another base."
    )


def _input_count(mapping: TensorMapping, width: int) -> int:
  """The number of dimensions of a kernel that make `width` inputs.

  Raises ValueError if the adapter belongs to a kernel of another size.
  """
  for count in range(1, len(mapping.layer_shape)):
    if math.prod(mapping.layer_shape[:count]) == width:
      inputs = mapping.layout.ours[:count]
      if mapping.layout.theirs == (mapping.layout.ours[count:], inputs):
        return count
  raise ValueError(
    f"The adapters of {mapping.path} have {width} inputs, but its kernel is "
    f"{mapping.layer_shape}: they belong to another base."
  )


@dataclasses.dataclass(frozen=True)
class _Scales:
  """The factors of adapters, by the rule of PEFT."""

  settings: Mapping[str, Any]
  modules: Mapping[str, str]  # Canonical name of a weight -> its module in PyTorch.

  def of(self, canonical: str, rank: int) -> float:
    """alpha / rank of a module, or alpha / sqrt(rank).

    The first pattern that matches the module's name, or the end of it after a dot, counts.
    """
    alpha = self.settings["lora_alpha"]
    for pattern, value in (self.settings.get("alpha_pattern") or {}).items():
      if re.match(rf"(.*\.)?({pattern})$", self.modules[canonical]):
        alpha = value
        break
    return alpha / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)


def _adapter_config(
  config: Mapping[str, Any],
  settings: Mapping[str, Any],
  ranks: Sequence[tuple[str, int]],
  step: epath.Path,
) -> dict[str, Any]:
  """The config of the base with the adapters."""
  adapted = copy.deepcopy(dict(config))
  adapted["lora"] = dict(
    ranks=tuple(ranks),
    alpha=float(settings["lora_alpha"]),
    dropout=float(settings.get("lora_dropout") or 0.0),
    base="same",
  )
  adapted["init_from"] = str(step)
  return adapted


def _copy_tokenizer(step: epath.Path, out: Path) -> None:
  """Copies the tokenizer beside the base, if there is one."""
  folder = Path(step).parent.parent
  for file in folder.iterdir() if folder.is_dir() else ():
    if file.name in TOKENIZER_FILES or file.suffix == ".model":
      shutil.copy(file, out / file.name)
