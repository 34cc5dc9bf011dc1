# SPDX-License-Identifier: Apache-2.0
"""Configs as they were before JSON made lists of their tuples."""

from collections.abc import Mapping
from typing import Any


def as_tuples(value: Any) -> Any:
  """JSON with tuples for its lists, at every depth: fields of a model must be hashable."""
  if isinstance(value, Mapping):
    return {key: as_tuples(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return tuple(map(as_tuples, value))
  return value
