# SPDX-License-Identifier: Apache-2.0
"""The answers of a needle test on disk.

The file has a line for each answer, and is kept over restarts.
"""

import json
import os
import pathlib
from typing import Any

from filax import files

ANSWERS = "answers.jsonl"
CONTROLS = "controls.jsonl"
SETTINGS = "settings.json"

Row = dict[str, Any]


class AnswerFile:
  """answers.jsonl and controls.jsonl of a folder; rows are added as they come.

  Without a folder, rows stay in memory. Raises ValueError if the folder holds the answers of
  another test, OSError if it cannot be written.
  """

  def __init__(self, folder: str | os.PathLike, settings: dict[str, Any]):
    self.rows: list[Row] = []
    self._folder = pathlib.Path(folder) if folder else None
    if self._folder is None:
      return
    self._folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(self._folder)
    _check_settings(self._folder / SETTINGS, settings)
    for name in (ANSWERS, CONTROLS):
      path = self._folder / name
      rows = _complete_rows(path)
      _write_rows(path, rows)
      self.rows += rows

  @property
  def ids(self) -> set[str]:
    """The ids of all rows."""
    return {row["id"] for row in self.rows}

  def add_rows(self, rows: list[Row]) -> None:
    """Appends the rows of one context; they are then on disk."""
    self.rows += rows
    if self._folder is None:
      return
    name = CONTROLS if rows[0]["control"] else ANSWERS
    with open(self._folder / name, "ab") as file:
      for row in rows:
        file.write(_line(row))
      file.flush()
      os.fsync(file.fileno())


def _write_rows(path: pathlib.Path, rows: list[Row]) -> None:
  """Writes complete rows only: a kill may have cut the last one."""
  with files.write_atomically(path) as file:
    for row in rows:
      file.write(_line(row))


def _line(row: Row) -> bytes:
  return (json.dumps(row) + "\n").encode()


def _complete_rows(path: pathlib.Path) -> list[Row]:
  """The rows of a file up to its first damaged line."""
  rows: list[Row] = []
  if not path.exists():
    return rows
  for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
    try:
      row = json.loads(line)
      complete = "score" in row
    except (ValueError, TypeError, KeyError):
      break
    if complete:
      rows.append(row)
  return rows


def _check_settings(path: pathlib.Path, settings: dict[str, Any]) -> None:
  """Writes the settings, or compares them with those of a former run."""
  settings = json.loads(json.dumps(settings))  # As they will be read.
  if path.exists():
    try:
      former = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
      former = {}
    changed = sorted(key for key in settings if former.get(key) != settings[key])
    if changed:
      raise ValueError(
        f"{path.parent} holds answers of another test: {_differences(former, settings, changed)}. "
        "Choose another --out, or delete the folder."
      )
    return
  with files.write_atomically(path) as file:
    file.write((json.dumps(settings, indent=2) + "\n").encode())


def _differences(
  former: dict[str, Any],
  settings: dict[str, Any],
  changed: list[str],
) -> str:
  """The changed settings in words."""
  words = []
  for key in changed:
    words.append(f"{key} was {_short(former.get(key))}, and is {_short(settings[key])}")
  return "; ".join(words)


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 60 else f"{text[:57]}..."
