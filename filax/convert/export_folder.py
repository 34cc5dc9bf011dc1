# SPDX-License-Identifier: Apache-2.0
"""Exports a FiLax checkpoint to a folder for PyTorch software.

It holds one parameter in memory at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from filax.checkpoint import streamed
from filax.checkpoint.parameter_reader import ParameterReader
from filax.checkpoint.tuples import as_tuples
from filax.convert import (
  ConversionError,
  export_documents,
  safetensors_writer,
  tensor_map,
  tensor_plan,
  torch_files,
)
from filax.convert.formats import FORMATS, ExportFormat
from filax.convert.output_folder import EXTRA_FILE, FUSION_FILE, create_output_folder
from filax.convert.report import ConversionReport
from filax.convert.safetensors_writer import TensorSpec
from filax.convert.tensor_map import TensorMapping
from filax.models import components


@dataclasses.dataclass
class ExportRequest:
  """The options of `filax convert to`."""

  checkpoint: str | os.PathLike
  out: str | os.PathLike
  format: str = "hf"
  dtype: str = "same"  # same | float32 | bfloat16; the fusion weights stay in float32.
  shard: int = 5 * safetensors_writer.GB  # Bytes of a file at most.
  tokenizer: Any = None  # data_pipelines.text.tokenizers.Tokenizer, or None.
  components: Sequence[str] = ()  # Modules that the checkpoint's config may name.


@dataclasses.dataclass(frozen=True)
class Export:
  """All decisions of an export, made before the first byte is written."""

  format: ExportFormat
  step: Path
  config: dict[str, Any]
  mappings: list[TensorMapping]  # In the main files.
  fusion: list[TensorMapping]  # In the fusion file.
  reader: ParameterReader
  stored: Mapping[str, Any]  # path -> shape and dtype in the checkpoint.
  dtype: np.dtype | None  # None: as stored.

  @property
  def model(self) -> Mapping[str, Any]:
    """config.model."""
    return self.config["model"]

  def file_name(self, canonical: str) -> str:
    """The name of a tensor in the files."""
    name = self.format.scheme(self.model).file_name(canonical)
    if name is None:
      raise ValueError(f"--format {self.format.name} has no name for {canonical}.")
    return name

  def written_dtype(self, mapping: TensorMapping) -> np.dtype:
    """The dtype in which a parameter is written."""
    if self.dtype is None or mapping.role == "merger":
      return np.dtype(self.stored[mapping.path].dtype)
    return self.dtype

  @property
  def main_dtype(self) -> np.dtype:
    """The dtype of most of the weights."""
    return torch_files.main_dtype(list(map(self.written_dtype, self.mappings)))


def export_checkpoint(
  request: ExportRequest,
  verify: Callable[[Path, ExportFormat, Mapping[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
  """Writes the folder and returns the report.

  `verify(folder, format, model)` may reject the result. Raises ConversionError, ValueError or
  OSError, and then leaves nothing under the name `out`.
  """
  export = open_export(request)
  vocabulary = export_documents.read_vocabulary(request.tokenizer)
  exported = {mapping.path for mapping in (*export.mappings, *export.fusion)}
  report = ConversionReport(
    "to",
    checkpoint=str(request.checkpoint),
    format=export.format.name,
    scheme=export.format.scheme(export.model).name,
    model=export.model,
    not_exported=sorted(export.stored.keys() - exported),
  )
  extra = extra_tensors(export, request.checkpoint)
  specs = tensor_specs(export, extra)
  with create_output_folder(request.out, sum(spec.size for spec in specs)) as temporary:
    _write_weights(temporary, export, specs, extra, request.shard, report)
    _write_fusion(temporary, export, report)
    run_folders = [Path(request.checkpoint), export.step.parent.parent]
    export_documents.copy_tokenizer(temporary, run_folders, request.tokenizer)
    export_documents.write_documents(
      temporary, export.format, export.config, export.main_dtype.name, vocabulary
    )
    if verify is not None:
      report.facts["verify"] = verify(temporary, export.format, export.model)
    return report.write_report(temporary)


def open_export(request: ExportRequest) -> Export:
  """Opens the checkpoint and maps all parameters of the format."""
  if request.format not in FORMATS:
    raise ValueError(f"--format {request.format} is unknown. Choose one of {', '.join(FORMATS)}.")
  export_format = FORMATS[request.format]
  step = streamed.step_folder(request.checkpoint)
  config = as_tuples(streamed.read_json(step, "config"))
  _check_config(config, step, request.components)
  model = config["model"]
  export_format.check_model(model)
  reader = ParameterReader(step)
  stored = reader.leaves
  mappings = []
  fusion = []
  for mapping in _map_stored(stored, step, model, export_format):
    if mapping.role == "merger" and export_format.fusion == "aside":
      fusion.append(mapping)
    else:
      mappings.append(mapping)
  dtype = None
  if request.dtype != "same":
    dtype = torch_files.DTYPE_BY_NAME[request.dtype]
  return Export(
    format=export_format,
    step=step,
    config=config,
    mappings=mappings,
    fusion=fusion,
    reader=reader,
    stored=stored,
    dtype=dtype,
  )


def _check_config(
  config: Mapping[str, Any],
  step: Path,
  allowed: Sequence[str],
) -> None:
  """Raises ValueError if the model of a config cannot be built."""
  source = f"The config of {step}"
  components.check_components(config, allowed, source)
  model = config.get("model")
  if not isinstance(model, Mapping):
    raise ValueError(f"{source} has no section 'model'.")
  for role in components.ROLES:
    if role in model:
      components.build(role, model[role], out=1)


def _map_stored(
  stored: Mapping[str, Any],
  step: Path,
  model: Mapping[str, Any],
  export_format: ExportFormat,
) -> list[TensorMapping]:
  """The mappings of the stored parameters of a format's roles.

  Raises ConversionError if the checkpoint lacks one.
  """
  roles = export_format.roles
  if export_format.fusion != "none":
    roles = (*roles, "merger")
  wanted = tensor_plan.leaves_of_roles(stored, roles)
  expected = tensor_plan.parameter_shapes(model, roles)
  missing = sorted(expected.keys() - wanted.keys())
  if missing:
    raise ConversionError(f"{step} lacks parameters of its config.model", {"missing": missing})
  vocab = components.build("llm", model["llm"]).vocab if model.get("llm") else 0
  return tensor_map.map_parameters(model, wanted, vocab)


def extra_tensors(export: Export, checkpoint: str | os.PathLike) -> dict[str, np.ndarray]:
  """Tensors that the format's reader needs and the model lacks.

  Returns name in the file -> tensor. Imported values are read from beside the checkpoint; without
  them the tensors get values without effect.
  """
  model = export.model
  imported = _imported_extra(export, checkpoint)
  sizes = {"E": 0, "D": 0}
  if "encoder" in model:
    sizes["E"] = components.build("encoder", model["encoder"]).width
  if "llm" in model:
    sizes["D"] = components.build("llm", model["llm"]).width
  mapped: set[str] = set()
  for mapping in export.mappings:
    mapped.update(mapping.names)
  tensors = {}
  for role in export.format.extra:
    tables = tensor_map.component_tables(role, model[role]["name"])
    for name, axis, neutral in tables.extra:
      canonical = f"{role}.{name}"
      if canonical in mapped:
        continue
      tensor = imported.get(canonical)
      if tensor is not None and tensor.shape == (sizes[axis],):
        x = tensor.read_all()
      else:
        x = np.full(sizes[axis], neutral, np.float32)
      tensors[export.file_name(canonical)] = x.astype(export.main_dtype)
  return tensors


def _imported_extra(export: Export, checkpoint: str | os.PathLike) -> dict[str, Any]:
  """Extra tensors of an earlier import, by canonical name.

  An import stores them beside its checkpoint.
  """
  for folder in (Path(checkpoint), export.step.parent.parent):
    file = folder / EXTRA_FILE
    if file.exists():
      return torch_files.open_safetensors(file)
  return {}


def tensor_specs(export: Export, extra: Mapping[str, np.ndarray]) -> list[TensorSpec]:
  """Names, shapes and dtypes of all tensors of the main files."""
  specs = []
  for group in tensor_map.group_by_tensors(export.mappings):
    shape = group[0].tensor_shape
    dtype = export.written_dtype(group[0])
    for canonical in group[0].names:
      specs.append(TensorSpec(export.file_name(canonical), shape, dtype))
  for name, x in extra.items():
    specs.append(TensorSpec(name, x.shape, x.dtype))
  return specs


def _write_weights(
  out: Path,
  export: Export,
  specs: Sequence[TensorSpec],
  extra: Mapping[str, np.ndarray],
  limit: int,
  report: ConversionReport,
) -> None:
  """Streams the parameters into shards of at most `limit` bytes."""
  groups = tensor_map.group_by_tensors(export.mappings)
  with safetensors_writer.ShardWriter(out, specs, limit) as shards:
    for group in report.count_on_terminal(groups):
      for canonical, x in group_tensors(export, group):
        name = export.file_name(canonical)
        shards.write_tensor(name, x)
        report.add_tensor(name, group[0].path, x)
    for name, x in extra.items():
      shards.write_tensor(name, x)
      report.add_tensor(name, "", x)
    shards.finish()


def _write_fusion(out: Path, export: Export, report: ConversionReport) -> None:
  """Writes the fusion file, if the format has one."""
  if not export.fusion:
    return
  tensors = {}
  for mapping in export.fusion:
    for canonical, x in group_tensors(export, [mapping]):
      tensors[canonical.removeprefix("merger.")] = x
  metadata = dict(
    merger=export.model["merger"]["name"],
    merge_stage=str(export.model.get("merge_stage", "vision")),
    scene_size=str(export.model["selector"].get("size", "")),
  )
  safetensors_writer.write_safetensors(out / FUSION_FILE, tensors, metadata)
  for name, x in tensors.items():
    path = f"merger/{name.replace('.', '/')}"
    report.add_tensor(f"{FUSION_FILE}:{name}", path, x)


def group_tensors(
  export: Export,
  group: Sequence[TensorMapping],
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (canonical name, tensor) of the parameters of a group.

  Each parameter is read once. A group is one parameter, or several that share a fused tensor.
  Raises ConversionError for NaN and infinity.
  """
  dtype = export.written_dtype(group[0])
  layers = zip(*(stored_layers(export, mapping) for mapping in group), strict=True)
  for canonical, shares in zip(group[0].names, layers, strict=True):
    parts = []
    for mapping, x in zip(group, shares, strict=True):
      parts.append(mapping.layout.to_tensor(x, mapping.vocab))
    tensor = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not torch_files.all_finite(tensor):
      raise ConversionError("Some weights are not numbers", {"parameters": [group[0].path]})
    yield canonical, tensor.astype(dtype, copy=False)


def stored_layers(export: Export, mapping: TensorMapping) -> Iterator[np.ndarray]:
  """Yields the layers of a stored parameter.

  A parameter without layers is yielded as a whole.
  """
  if mapping.stacked:
    yield from export.reader.layers(mapping.path)
  else:
    yield export.reader.whole(mapping.path)
