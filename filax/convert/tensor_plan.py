# SPDX-License-Identifier: Apache-2.0
"""PyTorch files -> parameters: first a plan that uses every tensor exactly once, then the reading.

The plan is made from names and shapes alone, and fails with all that does not fit. Reading is leaf
by leaf; on a mesh every process reads only what its devices hold.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from pathlib import Path
import re
from typing import Any

import numpy as np

from filax.convert import ConversionError, file_names
from filax.convert import tensor_map as places
from filax.convert import torch_files as tensors
from filax.convert.tensor_map import Place
from filax.convert.torch_files import Tensor
from filax.models import components

HEAD, EMBEDDING = "llm.lm_head.weight", "llm.embed_tokens.weight"
TIED = "the head is tied to the embedding"
ASIDE = "fila/scene_merger.safetensors"  # The fusion weights of an exported folder.
SMALL = dict(  # Stands in for the roles that a part of a model does not have.
  encoder=dict(name="siglip", variant="tiny"),
  selector=dict(name="uniform", size=1),
  merger=dict(name="mean"),
  projector=dict(name="mlp"),
  llm=dict(name="qwen2", variant="tiny"),
)
OPTIONAL = re.compile(r"merger/.*|projector/image_newline")  # May be new in a later stage.


@dataclasses.dataclass(frozen=True)
class Source:
  """A folder or file, its tensors by name, and the roles that are taken from it."""

  path: Path
  tensors: Mapping[str, Tensor]
  roles: tuple[str, ...]


@dataclasses.dataclass
class Plan:
  """Every parameter with its tensors (`taken`), or drawn anew; every other tensor with a reason."""

  places: list[Place]
  taken: dict[str, Tensor]  # Canonical name -> tensor.
  fresh: list[Place]
  unused: list[tuple[str, str, Tensor]]  # Canonical name, reason, tensor.
  scheme: dict[str, str]  # Folder or file -> name of its scheme.

  def dtype(self, place: Place) -> np.dtype:
    """The widest dtype among the tensors of a parameter; float64 becomes float32."""
    kinds = {self.taken[name].dtype for name in place.names}
    widest = max(kinds, key=lambda kind: (kind.itemsize, kind == np.float16))
    return np.dtype(np.float32) if widest == np.float64 or len(kinds) > 1 else widest


def source(path: str | os.PathLike, roles: Sequence[str]) -> Source:
  """Opens a folder or file. The fusion weights beside an exported folder are part of it."""
  path = Path(path)
  found = tensors.open_all(path)
  if "merger" in roles and (path / ASIDE).exists():
    aside = tensors.safetensors(path / ASIDE)
    found = dict(found) | {f"model.scene_merger.{name}": t for name, t in aside.items()}
  return Source(path, found, tuple(roles))


def parameter_shapes(model: Mapping[str, Any], roles: Sequence[str]) -> dict[str, Any]:
  """path -> ShapeDtypeStruct of the parameters of some roles of config.model.

  Roles that are missing from `model` are filled by the smallest component there is, and left out.
  """
  from filax.checkpoint.streamed import flat

  tree = components.parameter_shapes(components.build_video_lm(SMALL | dict(model)))
  return {path: leaf for path, leaf in sorted(flat(tree).items()) if path.split("/")[0] in roles}


def plan(
  model: Mapping[str, Any],
  sources: Sequence[Source],
  *,
  roles: Sequence[str] = components.ROLES,
  fresh: bool = False,
  ignore: Sequence[str] = (),
) -> Plan:
  """Finds a tensor for every parameter of `roles`, and a use or a reason for every tensor.

  `fresh` lets roles without any source, the merger and the newline be drawn anew; `ignore` are
  patterns of names in the files that are known to be unneeded. Raises ConversionError with all
  missing, unknown, misshapen and non-float tensors.
  """
  shapes = parameter_shapes(model, roles)
  vocab = components.build("llm", model["llm"]).vocab if "llm" in model else 0
  found = Plan(places.find(model, shapes, vocab), {}, [], [], {})
  problems: dict[str, list[str]] = {"unknown tensors": [], "not plain floats": []}
  for part in sources:
    _take(found, part, model, ignore, problems)
  _check(found, {role for part in sources for role in part.roles}, fresh, problems)
  _check_head(found, problems)
  if any(problems.values()):
    where = ", ".join(str(part.path) for part in sources)
    raise ConversionError(f"The tensors of {where} do not fit the model", problems)
  return found


def _take(found: Plan, part: Source, model, ignore: Sequence[str], problems) -> None:
  """Gives the tensors of a source to the parameters of its roles."""
  wanted = {
    name for place in found.places if place.path.split("/")[0] in part.roles for name in place.names
  }
  scheme = file_names.detect(part.tensors, wanted)
  found.scheme[str(part.path)] = scheme.name
  spare = _spare(model, part.roles)
  for name, tensor in part.tensors.items():
    canonical = scheme.canonical(name) or ""
    if canonical in wanted:
      found.taken[canonical] = tensor
      if tensor.dtype is None:
        problems["not plain floats"].append(f"{name} is {tensor.stored}")
      continue
    reason = _reason(name, canonical, scheme, part.roles, spare, ignore)
    if reason:
      found.unused.append((canonical or name, reason, tensor))
    else:
      problems["unknown tensors"].append(name)


def _spare(model, roles) -> list[tuple[re.Pattern, str]]:
  depth = {
    role: getattr(components.build(role, model[role]), "depth", 0)
    for role in roles
    if role in model and role in ("encoder", "llm")
  }
  return [
    row for role in roles if role in model for row in places.spare(model, role, depth.get(role, 0))
  ]


def _reason(name, canonical, scheme, roles, spare, ignore) -> str | None:
  """Why a tensor that no parameter wants may be there; None if it may not."""
  for pattern, why in spare:
    if pattern.fullmatch(canonical):
      return why
  if canonical == HEAD and "llm" in roles:
    return TIED
  if canonical and canonical.split(".")[0] not in roles:
    return "of a part that is not taken from here"
  if any(re.fullmatch(pattern, name) for pattern in ignore):
    return "ignored by --ignore"
  return scheme.unused(name)


def _check(found: Plan, given: set[str], fresh: bool, problems) -> None:
  """Sorts parameters without tensors into fresh and missing, and compares shapes."""
  missing, wrong = [], []
  for place in list(found.places):
    role, lacks = place.path.split("/")[0], [n for n in place.names if n not in found.taken]
    new = fresh and (role not in given or OPTIONAL.fullmatch(place.path))
    if len(lacks) == len(place.names) and new:
      found.places.remove(place)
      found.fresh.append(place)
      continue
    missing += lacks
    for name in place.names:
      if name in found.taken and found.taken[name].shape != place.their_shape:
        tensor = found.taken[name]
        wrong.append(f"{tensor.name} is {tensor.shape}, expected {place.their_shape}")
  problems["missing tensors"] = missing
  problems["wrong shapes"] = wrong


def _check_head(found: Plan, problems) -> None:
  """A stored head that differs from the embedding it is tied to would be lost."""
  table = found.taken.get(EMBEDDING)
  for name, reason, tensor in found.unused:
    if name != HEAD or reason != TIED or table is None:
      continue
    step = max(1, tensors.BLOCK // max(1, tensor.size // max(1, tensor.shape[0])))
    rows = range(0, tensor.shape[0], step)
    if tensor.shape != table.shape or any(
      not np.array_equal(tensor[i : i + step,], table[i : i + step,]) for i in rows
    ):
      problems["tied heads that differ from the embedding (--set llm.tied=False keeps them)"] = [
        tensor.name
      ]


def params(found: Plan, shardings: Mapping[str, Any] | None = None, dtype: Any = None):
  """The parameters of a plan as jax arrays, leaf by leaf; parameters to draw anew are left out.

  `shardings` maps a path to a sharding: then only what this process's devices hold is read.
  """
  import jax

  from filax.checkpoint.streamed import nest

  tree: dict[str, Any] = {}
  for place in found.places:
    kind = np.dtype(dtype) if dtype else found.dtype(place)
    if shardings is None:
      leaf = jax.device_put(piece(found, place, (slice(None),) * len(place.shape), kind))
    else:
      leaf = jax.make_array_from_callback(
        place.shape, shardings[place.path], _reader(found, place, kind)
      )
    nest(tree, place.path, leaf)
  return tree


def _reader(found: Plan, place: Place, dtype):
  """index -> that part of a parameter; devices that hold the same part share one reading."""
  parts: dict[str, np.ndarray] = {}

  def read(index: tuple[slice, ...]) -> np.ndarray:
    key = str(index)
    if key not in parts:
      parts[key] = piece(found, place, index, dtype)
    return parts[key]

  return read


def piece(found: Plan, place: Place, index: tuple[slice, ...], dtype) -> np.ndarray:
  """leaf[index] of a parameter, read from its tensors."""
  read = lambda name, index: place.read(found.taken[name], index).astype(dtype, copy=False)
  if not place.stacked:
    return read(place.names[0], index)
  names = place.names[index[0]]
  first = read(names[0], index[1:])
  out = np.empty((len(names), *first.shape), dtype)
  out[0] = first
  for i, name in enumerate(names[1:], 1):
    out[i] = read(name, index[1:])
  return out


def weights(found: Plan, place: Place):
  """Yields (index into the parameter, tensor, its whole content) layer by layer."""
  for layer, name in enumerate(place.names):
    tensor = found.taken[name]
    yield (layer if place.stacked else Ellipsis), tensor, tensor[...,]
