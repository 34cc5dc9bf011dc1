# SPDX-License-Identifier: Apache-2.0
"""Restores the tuples of a config that was stored as JSON, which has only lists."""

from collections.abc import Mapping
from typing import Any


def as_tuples(value: Any) -> Any:
  """JSON with tuples in place of lists, at every depth.

  Fields of a model must be hashable.
  """
  if isinstance(value, Mapping):
    return {key: as_tuples(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return tuple(map(as_tuples, value))
  return value
