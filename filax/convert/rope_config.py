# SPDX-License-Identifier: Apache-2.0
"""Reads the rotary positions of a transformers config (4 and 5)."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from filax.ops.rope import YARN_KEYS

LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_TYPES = ("default", "yarn")


def read_rope(config: Mapping[str, Any], types: Sequence[str] = _TYPES) -> Mapping[str, Any]:
  """The settings of rotary positions.

  `types` are the implemented ones. Raises ValueError naming a setting that is not implemented.
  """
  rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
  kind = rope_type(rope)
  if kind not in types:
    raise ValueError(f"rope of type {kind!r} is not implemented; {' and '.join(types)} are.")
  if config.get("partial_rotary_factor") not in (None, 1, 1.0):
    raise ValueError(
      f"partial_rotary_factor is {config['partial_rotary_factor']}, but whole heads turn here."
    )
  implemented = ["rope_type", "type", "rope_theta"]
  if kind == "yarn":
    implemented += ["factor", "original_max_position_embeddings", *YARN_KEYS]
  if kind == "llama3":
    implemented += LLAMA3_KEYS
  for key, value in rope.items():
    if key in implemented or value is None:
      continue
    if key in ("factor", "partial_rotary_factor") and value == 1:  # Changes nothing.
      continue
    raise ValueError(f"rope of type {kind!r} has {key}={value!r}, which is not implemented.")
  return rope


def rope_type(rope: Mapping[str, Any]) -> str:
  """The type of rotary positions, under its new or its old key."""
  return rope.get("rope_type", rope.get("type", "default"))


def yarn_settings(rope: Mapping[str, Any], positions: int) -> tuple:
  """config.model.llm.yarn from a rope config.

  Returns (factor, trained positions[, settings that differ from YaRN's defaults]). Raises
  ValueError for a value of the wrong type.
  """
  for key in ("factor", "original_max_position_embeddings"):
    if rope.get(key) is not None:
      _check_positive("yarn", key, rope[key])
  trained = rope.get("original_max_position_embeddings") or positions
  factor = rope.get("factor")
  factor = positions / trained if factor is None else float(factor)
  options = []
  for key in YARN_KEYS:
    value = rope.get(key)
    if value is None:
      continue
    must_be_bool = key == "truncate"
    if not isinstance(value, int | float) or must_be_bool != isinstance(value, bool):
      wanted = "true or false" if must_be_bool else "a number"
      raise ValueError(f"rope of type 'yarn' has {key}={value!r}, but it must be {wanted}.")
    options.append((key, value))
  if options:
    return factor, trained, tuple(options)
  return factor, trained


def llama3_settings(rope: Mapping[str, Any]) -> tuple[float, float, float, int]:
  """config.model.llm.stretch from a rope config. Raises ValueError for a missing value."""
  values = []
  for key in LLAMA3_KEYS:
    _check_positive("llama3", key, rope.get(key))
    values.append(rope[key])
  factor, low, high, trained = values
  return float(factor), float(low), float(high), int(trained)


def _check_positive(kind: str, key: str, value: Any) -> None:
  """Raises ValueError for anything but a number above 0."""
  fits = isinstance(value, int | float) and not isinstance(value, bool)
  if not fits or not 0 < value < math.inf:
    raise ValueError(f"rope of type {kind!r} has {key}={value!r}, but it must be a number above 0.")
