# SPDX-License-Identifier: Apache-2.0
"""Rotary positions in the words of transformers (4 and 5), read into those of config.model.llm."""

from collections.abc import Mapping
from typing import Any

from filax.ops.rope import YARN_KEYS


def read(config: Mapping[str, Any]) -> Mapping[str, Any]:
  """The settings of rotary positions. Raises ValueError naming what is not implemented."""
  rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
  kind = kind_of(rope)
  if kind not in ("default", "yarn"):
    raise ValueError(f"rope of type {kind!r} is not implemented; default and yarn are.")
  if config.get("partial_rotary_factor") not in (None, 1, 1.0):
    raise ValueError(
      f"partial_rotary_factor is {config['partial_rotary_factor']}, but whole heads turn here."
    )
  known = ["rope_type", "type", "rope_theta"]
  if kind == "yarn":
    known += ["factor", "original_max_position_embeddings", *YARN_KEYS]
  for key, value in rope.items():
    harmless = value is None or (key in ("factor", "partial_rotary_factor") and value == 1)
    if key not in known and not harmless:
      raise ValueError(f"rope of type {kind!r} has {key}={value!r}, which is not implemented.")
  return rope


def kind_of(rope: Mapping[str, Any]) -> str:
  return rope.get("rope_type", rope.get("type", "default"))


def yarn(rope: Mapping[str, Any], positions: int) -> tuple:
  """config.model.llm.yarn: (factor, trained positions), and what differs from YaRN's defaults."""
  trained = rope.get("original_max_position_embeddings") or positions
  factor = rope.get("factor")
  factor = positions / trained if factor is None else float(factor)
  options = [(key, rope[key]) for key in YARN_KEYS if rope.get(key) is not None]
  for key, value in options:
    if not isinstance(value, int | float) or (key == "truncate") != isinstance(value, bool):
      raise ValueError(f"rope of type 'yarn' has {key}={value!r}, which is no value of it.")
  return (factor, trained, tuple(options)) if options else (factor, trained)
