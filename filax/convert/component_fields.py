# SPDX-License-Identifier: Apache-2.0
"""Checks types, missing sizes and variants of a part of config.model.

They are compared with the fields of the component.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from filax.models import components

ASKED = ("theta",)  # Its default differs from transformers'.
_AT_LEAST_1 = ("positions",)  # Sizes that have a default.
_LARGEST = 1 << 20  # A size above it is damage, and its tensors are beyond 64-bit numbers.
_MOST_LAYERS = 10_000


def with_types(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
  """The part with float values in float fields.

  For example 1000000 for the base of rotations. Raises ValueError if a numeric field has no number,
  a size is out of range, a float is not above 0, or a switch is neither true nor false.
  """
  part = dict(part)
  if "name" not in part:
    return part
  _, component = components.component(role, part["name"])
  fields = component.__dataclass_fields__
  for key in part.keys() & fields.keys():
    if fields[key].type in (int, float):
      part[key] = _number(role, fields[key], part[key])
    if fields[key].type is bool and not isinstance(part[key], bool):
      raise ValueError(f"{role}.{key} is {part[key]!r}, but must be true or false.")
  return part


def _number(role: str, field: dataclasses.Field, value: Any) -> int | float:
  """The value of a field in the field's type.

  Raises ValueError if it is not a number of that type.
  """
  is_float = field.type is float
  fits = isinstance(value, int | float if is_float else int) and not isinstance(value, bool)
  limit = ""
  if is_float:
    limit = " above 0"
    fits = fits and 0 < value < math.inf
  elif _is_required(field):
    largest = _MOST_LAYERS if field.name == "depth" else _LARGEST
    limit = f" of 1 to {largest}"
    fits = fits and 1 <= value <= largest
  elif field.name in _AT_LEAST_1:
    limit = " of at least 1"
    fits = fits and value >= 1
  if not fits:
    name = f"{role}.{field.name}"
    raise ValueError(f"{name} is {value!r}, but must be a number{limit}. Give --set {name}=...")
  return float(value) if field.type is float else int(value)


def check_complete(model: Mapping[str, Any]) -> None:
  """Raises ValueError naming the --set of every size that is still missing."""
  missing = []
  for role, part in model.items():
    if isinstance(part, Mapping) and "variant" not in part:
      missing += _missing_fields(role, part)
  if missing:
    flags = " ".join(f"--set {name}=..." for name in missing)
    raise ValueError(
      f"config.json does not say {', '.join(missing)}. Give {flags}, or a variant: "
      f"--set ROLE.variant=NAME."
    )


def _missing_fields(role: str, part: Mapping[str, Any]) -> list[str]:
  if "name" not in part:
    return [f"{role}.name"]
  _, component = components.component(role, part["name"])
  missing = []
  for name, field in component.__dataclass_fields__.items():
    if name not in part and (name in ASKED or _is_required(field)):
      missing.append(f"{role}.{name}")
  return missing


def _is_required(field: dataclasses.Field) -> bool:
  if field.name in ("parent", "name"):
    return False
  return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def with_variant_name(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
  """The part with its variant's name in place of sizes.

  If no variant matches, the part is unchanged.
  """
  part = dict(part)
  if "variant" in part or "name" not in part:
    return part
  module, component = components.component(role, part["name"])
  fields = component.__dataclass_fields__
  built = components.build(role, part)
  for variant, sizes in getattr(module, "VARIANTS", {}).items():
    short = dict(name=part["name"], variant=variant)
    for key, value in part.items():
      if key not in sizes and not _is_default(fields.get(key), value):
        short[key] = value
    if components.build(role, short) == built:
      return short
  return part


def _is_default(field: dataclasses.Field | None, value: Any) -> bool:
  return field is not None and field.name != "name" and value == field.default
