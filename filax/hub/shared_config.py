# SPDX-License-Identifier: Apache-2.0
"""The config of a run without the paths of the machine that it ran on."""

from collections.abc import Mapping
import os
import pathlib
from typing import Any

# Settings that are paths; of rows, the numbers of the entries that are.
_PATHS = frozenset(
  (
    "init_from",
    "debug_corpus",
    "data.root",
    "data.tokenizer",
    "data.cache",
    "data.exclude",
  )
)
_ROWS = {"data.train": (0,), "evals": (0, 3)}


def shared_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config with the last part of every path alone."""
  return _without_paths(config, "")


def _without_paths(value: Any, name: str) -> Any:
  if isinstance(value, Mapping):
    inside = f"{name}." if name else ""
    return {key: _without_paths(entry, f"{inside}{key}") for key, entry in value.items()}
  if isinstance(value, tuple | list):
    if name in _ROWS:
      return tuple(_row(row, _ROWS[name]) for row in value)
    return tuple(_without_paths(entry, name) for entry in value)
  if isinstance(value, str | os.PathLike) and (name in _PATHS or _is_absolute(value)):
    return _last_part(value)
  return value


def _row(row: Any, places: tuple[int, ...]) -> tuple[Any, ...]:
  """A row whose entries at `places` are paths."""
  entries = []
  for place, entry in enumerate(row):
    is_path = place in places and isinstance(entry, str | os.PathLike)
    entries.append(_last_part(entry) if is_path else entry)
  return tuple(entries)


def _is_absolute(value: str | os.PathLike) -> bool:
  text = os.fspath(value)
  return "://" in text or pathlib.PurePath(text).is_absolute() or text.startswith("~")


def _last_part(value: str | os.PathLike) -> str:
  return pathlib.PurePath(os.fspath(value)).name
