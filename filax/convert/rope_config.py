# SPDX-License-Identifier: Apache-2.0
"""Reads the rotary positions of a transformers config (4 and 5)."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from filax.ops.rope import YARN_KEYS

TRAINED = "original_max_position_embeddings"
LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", TRAINED)
_TYPES = ("default", "yarn")
_WITH_TRAINED = ("yarn", "llama3")  # Types that depend on the trained positions.


def read_rope(config: Mapping[str, Any], types: Sequence[str] = _TYPES) -> Mapping[str, Any]:
  """The settings of rotary positions.

  `types` are the implemented ones. Raises ValueError naming a setting that is not implemented.
  """
  rope = _only_settings(config)
  kind = rope_type(rope)
  if kind not in types:
    raise ValueError(f"rope of type {kind!r} is not implemented; {' and '.join(types)} are.")
  if config.get("partial_rotary_factor") not in (None, 1, 1.0):
    raise ValueError(
      f"partial_rotary_factor is {config['partial_rotary_factor']}, but whole heads turn here."
    )
  implemented = ["rope_type", "type", "rope_theta"]
  if kind == "yarn":
    implemented += ["factor", TRAINED, *YARN_KEYS]
  if kind == "llama3":
    implemented += LLAMA3_KEYS
  for key, value in rope.items():
    if key in implemented or value is None:
      continue
    if key in ("factor", "partial_rotary_factor") and value == 1:  # Changes nothing.
      continue
    raise ValueError(f"rope of type {kind!r} has {key}={value!r}, which is not implemented.")
  return rope


def _only_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
  """The settings under the key of transformers 5 or of transformers 4.

  Raises ValueError if a second place has other settings: versions of transformers differ in the one
  that they read.
  """
  new = config.get("rope_parameters") or {}
  old = config.get("rope_scaling") or {}
  if new and old and dict(new) != dict(old):
    raise ValueError(
      f"config.json has rope_parameters={dict(new)} and another rope_scaling={dict(old)}. Keep the "
      "one that holds, with its rope_theta."
    )
  rope = new or old
  outside = config.get(TRAINED)
  if rope_type(rope) in _WITH_TRAINED and outside not in (None, rope.get(TRAINED)):
    raise ValueError(
      f"config.json has {TRAINED}={outside} outside of its rope settings, which have "
      f"{rope.get(TRAINED)}. Move it into them, or remove it."
    )
  return rope


def rope_type(rope: Mapping[str, Any]) -> str:
  """The type of rotary positions, under its new or its old key."""
  return rope.get("rope_type", rope.get("type", "default"))


def yarn_settings(rope: Mapping[str, Any], positions: int) -> tuple:
  """config.model.llm.yarn from a rope config.

  Returns (factor, trained positions[, settings that differ from YaRN's defaults]). Raises
  ValueError for a value of the wrong type.
  """
  for key in ("factor", TRAINED):
    if rope.get(key) is not None:
      _check_positive("yarn", key, rope[key])
  trained = rope.get(TRAINED) or positions
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
