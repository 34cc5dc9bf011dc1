# SPDX-License-Identifier: Apache-2.0
"""Files of a downloaded folder: regular ones, inside it, of a bounded size, read as strict JSON."""

from collections.abc import Sequence
import json
import os
from pathlib import Path
import stat
from typing import Any

LARGEST_JSON = 100_000_000  # Bytes; the limit of the safetensors library for a header.
_KINDS = {
  stat.S_IFIFO: "a pipe",
  stat.S_IFSOCK: "a socket",
  stat.S_IFCHR: "a device",
  stat.S_IFBLK: "a device",
  stat.S_IFDIR: "a folder",
}


class Wrong(ValueError):
  """What a file says contradicts itself, or what its readers can take."""


def check_regular(file: Path) -> None:
  """Raises ValueError for a pipe, socket, device or folder: to read one may never end.

  A missing file is not looked at: it is named by whoever opens it.
  """
  try:
    kind = stat.S_IFMT(os.stat(file).st_mode)
  except FileNotFoundError:
    return
  if kind != stat.S_IFREG:
    raise Wrong(f"{file.name} is {_KINDS.get(kind, 'something')}, not a file")


def check_all_regular(folder: str | os.PathLike) -> None:
  """Raises ValueError if anything below a local folder is neither a file nor a folder."""
  for parent, _, names in os.walk(folder):
    for name in names:
      file = Path(parent) / name
      try:
        check_regular(file)
      except Wrong as error:
        raise Wrong(f"The folder {folder} cannot be read: {error}.") from None


def check_checkpoint(path: str | os.PathLike) -> None:
  """Raises ValueError if a step of a local run folder holds a pipe or a device.

  `path`: the folder of a run, its checkpoints, or a step. URLs are not looked at.
  """
  if "://" in os.fspath(path):
    return
  path = Path(path)
  folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
  if (folder / "state").exists():
    check_all_regular(folder)
  elif folder.is_dir():
    for step in folder.iterdir():
      if step.name.isdigit():
        check_all_regular(step)


def inside(folder: Path, name: str) -> Path:
  """The file `name` of a folder, which an index names. Raises ValueError if it lies elsewhere.

  A link may only lead to the folder's blobs in a Hugging Face cache.
  """
  parts = Path(name).parts
  if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
    raise Wrong(f"{name!r} is not inside the folder")
  file = folder / name
  roots = [folder.resolve()]
  if folder.resolve().parent.name == "snapshots":
    roots.append(folder.resolve().parent.parent / "blobs")
  target = file.resolve()
  if not any(target.is_relative_to(root) for root in roots):
    raise Wrong(f"{name!r} is a link to {target}, which is not inside the folder")
  return file


def read_json(file: Path) -> Any:
  """The content of a JSON file. Raises ValueError if it is no bounded, unambiguous JSON."""
  check_regular(file)
  if file.stat().st_size > LARGEST_JSON:
    raise Wrong(f"{file.name} has {file.stat().st_size:,} bytes, more than {LARGEST_JSON:,}")
  return parse_json(file.read_bytes())


def parse_json(content: bytes) -> Any:
  """JSON whose objects name nothing twice. Raises ValueError."""
  try:
    return json.loads(content, object_pairs_hook=_once)
  except RecursionError:
    raise Wrong("it is nested too deep") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  content = dict(pairs)
  if len(content) < len(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 1000 else []
    raise Wrong(f"it names {twice[0] if twice else 'something'} twice")
  return content
