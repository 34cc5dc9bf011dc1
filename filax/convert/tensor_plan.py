# SPDX-License-Identifier: Apache-2.0
"""Loads parameters from PyTorch files.

First, a plan is made that uses every tensor exactly once. It needs only names and shapes, and
reports all problems together. Then the parameters are read one by one. On a mesh, every process
reads only the parts for its devices.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
from pathlib import Path
import re
from typing import Any, cast

import numpy as np

from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.convert import ConversionError, file_names, tensor_map, torch_files
from filax.convert.output_folder import FUSION_FILE
from filax.convert.tensor_map import TensorMapping
from filax.convert.torch_files import FileTensor
from filax.models import components

HEAD = "llm.lm_head.weight"
EMBEDDING = "llm.embed_tokens.weight"
TIED = "the head is tied to the embedding"
SMALLEST_MODEL = dict(  # Stands in for roles that a partial model does not have.
  encoder=dict(name="siglip", variant="tiny"),
  selector=dict(name="uniform", size=1),
  merger=dict(name="mean"),
  projector=dict(name="mlp"),
  llm=dict(name="qwen2", variant="tiny"),
)
OPTIONAL = re.compile(r"merger/.*|projector/image_newline")  # May be new in a later stage.

Problems = dict[str, list[str]]  # Kind -> findings, for ConversionError.


@dataclasses.dataclass(frozen=True)
class WeightSource:
  """A folder or file with its tensors by name and its roles."""

  path: Path
  tensors: Mapping[str, FileTensor]
  roles: tuple[str, ...]


@dataclasses.dataclass
class TensorPlan:
  """The tensors of each parameter, and why other tensors are unused.

  Parameters without tensors are `fresh`: they will be drawn at random.
  """

  mappings: list[TensorMapping]
  tensors: dict[str, FileTensor]  # Canonical name -> tensor.
  fresh: list[TensorMapping]  # Drawn at random.
  unused: list[tuple[str, str, FileTensor]]  # Canonical name, reason, tensor.
  schemes: dict[str, str]  # Folder or file -> name of its naming scheme.

  def parameter_dtype(self, mapping: TensorMapping) -> np.dtype:
    """The widest dtype among the tensors of a parameter; float64 becomes float32."""
    dtypes = {self.tensors[name].dtype for name in mapping.names}
    if len(dtypes) > 1 or np.dtype(np.float64) in dtypes:
      return np.dtype(np.float32)
    return cast(np.dtype, dtypes.pop())  # plan_tensors refuses tensors that are not floats.


def open_source(path: str | os.PathLike, roles: Sequence[str]) -> WeightSource:
  """Opens a folder or file.

  Includes the fusion weights beside an exported folder.
  """
  path = Path(path)
  tensors = torch_files.open_tensors(path)
  fusion_file = path / FUSION_FILE
  if "merger" in roles and fusion_file.exists():
    for name, tensor in torch_files.open_safetensors(fusion_file).items():
      tensors[f"model.scene_merger.{name}"] = tensor
  return WeightSource(path, tensors, tuple(roles))


def parameter_shapes(model: Mapping[str, Any], roles: Sequence[str]) -> dict[str, Any]:
  """ShapeDtypeStructs of the parameters of some roles, by path.

  Roles missing from `model` are built from the smallest component, and left out of the result.
  """
  video_lm = components.build_video_lm(SMALLEST_MODEL | dict(model))
  shapes = flatten_tree(components.parameter_shapes(video_lm))
  return leaves_of_roles(shapes, roles)


def leaves_of_roles(leaves: Mapping[str, Any], roles: Sequence[str]) -> dict[str, Any]:
  """The parameters of some roles, path -> leaf, sorted by path."""
  return {path: leaves[path] for path in sorted(leaves) if path.split("/")[0] in roles}


def plan_tensors(
  model: Mapping[str, Any],
  sources: Sequence[WeightSource],
  *,
  roles: Sequence[str] = components.ROLES,
  fresh: bool = False,
  ignore: Sequence[str] = (),
) -> TensorPlan:
  """Finds a tensor for every parameter of `roles`.

  Every tensor is used or gets a reason for not being used. `fresh` allows random parameters for
  roles without a source, the merger and the newline. `ignore` are patterns of tensor names in the
  files; matching tensors are unneeded. Raises ConversionError with all missing, unknown, misshapen
  and non-float tensors.
  """
  shapes = parameter_shapes(model, roles)
  vocab = components.build("llm", model["llm"]).vocab if "llm" in model else 0
  mappings = tensor_map.map_parameters(model, shapes, vocab)
  plan = TensorPlan(mappings, {}, [], [], {})
  problems: Problems = {"unknown tensors": [], "not plain floats": []}
  roles_with_source: set[str] = set()
  for source in sources:
    _assign_tensors(plan, source, model, ignore, problems)
    roles_with_source.update(source.roles)
  _check_parameters(plan, roles_with_source, fresh, problems)
  _check_head(plan, problems)
  if any(problems.values()):
    paths = ", ".join(str(source.path) for source in sources)
    raise ConversionError(f"The tensors of {paths} do not fit the model", problems)
  return plan


def _assign_tensors(
  plan: TensorPlan,
  source: WeightSource,
  model: Mapping[str, Any],
  ignore: Sequence[str],
  problems: Problems,
) -> None:
  """Gives the tensors of a source to the parameters of its roles."""
  wanted: set[str] = set()
  for mapping in plan.mappings:
    if mapping.role in source.roles:
      wanted.update(mapping.names)
  scheme = file_names.detect_scheme(source.tensors, wanted)
  plan.schemes[str(source.path)] = scheme.name
  spare = _spare_patterns(model, source.roles)
  for name, tensor in source.tensors.items():
    canonical = scheme.canonical(name) or ""
    if canonical in wanted:
      plan.tensors[canonical] = tensor
      if tensor.dtype is None:
        problems["not plain floats"].append(f"{name} is {tensor.stored}")
      continue
    reason = _spare_reason(name, canonical, source.roles, spare, ignore)
    reason = reason or scheme.spare_reason(name)
    if reason:
      plan.unused.append((canonical or name, reason, tensor))
    else:
      problems["unknown tensors"].append(name)


def _spare_patterns(model: Mapping[str, Any], roles: Sequence[str]) -> list[tuple[re.Pattern, str]]:
  patterns: list[tuple[re.Pattern, str]] = []
  for role in roles:
    if role not in model:
      continue
    depth = 0
    if role in ("encoder", "llm"):
      depth = components.build(role, model[role]).depth
    patterns += tensor_map.spare_patterns(model, role, depth)
  return patterns


def _spare_reason(
  name: str,
  canonical: str,
  roles: Sequence[str],
  spare: Sequence[tuple[re.Pattern, str]],
  ignore: Sequence[str],
) -> str | None:
  """Why a tensor may remain unused; None if it may not."""
  for pattern, reason in spare:
    if pattern.fullmatch(canonical):
      return reason
  if canonical == HEAD and "llm" in roles:
    return TIED
  if canonical and canonical.split(".")[0] not in roles:
    return "of a part that is not taken from here"
  if any(re.fullmatch(pattern, name) for pattern in ignore):
    return "ignored by --ignore"
  return None


def _check_parameters(
  plan: TensorPlan,
  roles_with_source: set[str],
  fresh: bool,
  problems: Problems,
) -> None:
  """Sorts parameters without tensors into fresh and missing, and compares shapes."""
  missing = []
  wrong_shapes = []
  for mapping in list(plan.mappings):
    absent = [name for name in mapping.names if name not in plan.tensors]
    may_be_fresh = mapping.role not in roles_with_source or OPTIONAL.fullmatch(mapping.path)
    if fresh and may_be_fresh and len(absent) == len(mapping.names):
      plan.mappings.remove(mapping)
      plan.fresh.append(mapping)
      continue
    missing += absent
    expected = mapping.tensor_shape
    for name in mapping.names:
      tensor = plan.tensors.get(name)
      if tensor is not None and tensor.shape != expected:
        wrong_shapes.append(f"{tensor.name} is {tensor.shape}, expected {expected}")
  problems["missing tensors"] = missing
  problems["wrong shapes"] = wrong_shapes


def _check_head(plan: TensorPlan, problems: Problems) -> None:
  """Reports a stored head that differs from its tied embedding."""
  embedding = plan.tensors.get(EMBEDDING)
  for name, reason, tensor in plan.unused:
    if name != HEAD or reason != TIED or embedding is None:
      continue
    if not _are_equal(tensor, embedding):
      kind = "tied heads that differ from the embedding (--set llm.tied=False keeps them)"
      problems[kind] = [tensor.name]


def _are_equal(tensor: FileTensor, other: FileTensor) -> bool:
  """Whether two tensors hold the same numbers.

  Reads a block of rows at a time.
  """
  if tensor.shape != other.shape:
    return False
  row_bytes = max(1, tensor.size // max(1, tensor.shape[0]))
  step = max(1, torch_files.BLOCK // row_bytes)
  for start in range(0, tensor.shape[0], step):
    rows = slice(start, start + step)
    if not np.array_equal(tensor[rows], other[rows]):
      return False
  return True


def load_parameters(
  plan: TensorPlan,
  shardings: Mapping[str, Any] | None = None,
  dtype: Any = None,
) -> dict[str, Any]:
  """Reads the parameters of a plan as jax arrays, one by one.

  Parameters that are drawn at random are left out. shardings: path -> sharding; if given, only the
  parts for the devices of this process are read.
  """
  import jax

  leaves: dict[str, Any] = {}
  for mapping in plan.mappings:
    kind = np.dtype(dtype) if dtype else plan.parameter_dtype(mapping)
    if shardings is None:
      everything = (slice(None),) * len(mapping.shape)
      leaf = jax.device_put(read_slices(plan, mapping, everything, kind))
    else:
      reader = _cached_reader(plan, mapping, kind)
      leaf = jax.make_array_from_callback(mapping.shape, shardings[mapping.path], reader)
    leaves[mapping.path] = leaf
  return unflatten_tree(leaves)


def _cached_reader(plan: TensorPlan, mapping: TensorMapping, dtype: np.dtype):
  """A function from an index to that part of a parameter.

  Devices that hold the same part share one read.
  """
  parts: dict[str, np.ndarray] = {}

  def read_part(index: tuple[slice, ...]) -> np.ndarray:
    key = str(index)
    if key not in parts:
      parts[key] = read_slices(plan, mapping, index, dtype)
    return parts[key]

  return read_part


def read_slices(
  plan: TensorPlan,
  mapping: TensorMapping,
  index: tuple[slice, ...],
  dtype: np.dtype,
) -> np.ndarray:
  """leaf[index] of a parameter, read from its tensors."""
  if not mapping.stacked:
    return _read_layer(plan, mapping, mapping.names[0], index, dtype)
  names = mapping.names[index[0]]
  first_layer = _read_layer(plan, mapping, names[0], index[1:], dtype)
  out = np.empty((len(names), *first_layer.shape), dtype)
  out[0] = first_layer
  for i, name in enumerate(names[1:], 1):
    out[i] = _read_layer(plan, mapping, name, index[1:], dtype)
  return out


def _read_layer(
  plan: TensorPlan,
  mapping: TensorMapping,
  name: str,
  index: tuple[slice, ...],
  dtype: np.dtype,
) -> np.ndarray:
  layer = mapping.read_layer(plan.tensors[name], index)
  return layer.astype(dtype, copy=False)


def read_tensors(
  plan: TensorPlan,
  mapping: TensorMapping,
) -> Iterator[tuple[Any, FileTensor, np.ndarray]]:
  """Yields (index into the parameter, tensor, its content) layer by layer."""
  for layer, name in enumerate(mapping.names):
    tensor = plan.tensors[name]
    index = layer if mapping.stacked else Ellipsis
    yield index, tensor, tensor.read_all()
