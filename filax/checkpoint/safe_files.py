# SPDX-License-Identifier: Apache-2.0
"""Safe reading of the files of a downloaded folder.

Only regular files inside the folder, of a bounded size, are read, and JSON strictly.
"""

from collections.abc import Sequence
import json
import os
from pathlib import Path
import stat
from typing import Any

from filax.checkpoint import run_folder

LARGEST_JSON = 100_000_000  # Bytes; the limit of the safetensors library for a header.
_KINDS = {
  stat.S_IFIFO: "a pipe",
  stat.S_IFSOCK: "a socket",
  stat.S_IFCHR: "a device",
  stat.S_IFBLK: "a device",
  stat.S_IFDIR: "a folder",
}


class MalformedFile(ValueError):
  """The content of a file contradicts itself or exceeds a limit."""


def check_regular(file: Path) -> None:
  """Raises ValueError unless a file is regular.

  Reading a pipe, socket or device may never end. A missing file passes: opening it gives the error.
  """
  try:
    kind = stat.S_IFMT(os.stat(file).st_mode)
  except FileNotFoundError:
    return
  if kind != stat.S_IFREG:
    raise MalformedFile(f"{file.name} is {_KINDS.get(kind, 'something')}, not a file")


def check_all_regular(folder: str | os.PathLike) -> None:
  """Raises ValueError for any pipe, socket or device below a folder.

  The folder is a local one.
  """
  for parent, _, names in os.walk(os.fspath(folder)):
    for name in names:
      file = Path(parent) / name
      try:
        check_regular(file)
      except MalformedFile as error:
        raise MalformedFile(f"The folder {folder} cannot be read: {error}.") from None


def check_checkpoint(path: str | os.PathLike) -> None:
  """Raises ValueError for a pipe, socket or device in a local checkpoint.

  `path`: the folder of a run, its checkpoints, or a step. URLs pass unread.
  """
  if "://" in os.fspath(path):
    return
  for step in run_folder.step_folders(Path(path)):
    check_all_regular(step)


def inside(folder: Path, name: str) -> Path:
  """The file of a folder that an index names.

  A link may only lead to the folder's blobs in a Hugging Face cache. Raises ValueError for a file
  outside.
  """
  parts = Path(name).parts
  if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
    raise MalformedFile(f"{name!r} is not inside the folder")
  file = folder / name
  real_folder = folder.resolve()
  roots = [real_folder]
  if real_folder.parent.name == "snapshots":
    roots.append(real_folder.parent.parent / "blobs")
  target = file.resolve()
  if not any(target.is_relative_to(root) for root in roots):
    raise MalformedFile(f"{name!r} is a link to {target}, which is not inside the folder")
  return file


def read_json(file: Path) -> Any:
  """The content of a JSON file.

  Raises ValueError for invalid or ambiguous JSON, and for a file that is too large.
  """
  check_regular(file)
  size = file.stat().st_size
  if size > LARGEST_JSON:
    raise MalformedFile(f"{file.name} has {size:,} bytes, more than {LARGEST_JSON:,}")
  return parse_json(file.read_bytes())


def parse_json(content: bytes) -> Any:
  """Parses JSON whose objects have no key twice.

  Raises ValueError for other content.
  """
  try:
    return json.loads(content, object_pairs_hook=_unique_keys)
  except RecursionError:
    raise MalformedFile("it is nested too deep") from None


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  content = dict(pairs)
  if len(content) == len(pairs):
    return content
  keys = [key for key, _ in pairs]
  repeated = "something"
  if len(keys) < 1000:  # Counting is quadratic.
    repeated = min(key for key in keys if keys.count(key) > 1)
  raise MalformedFile(f"it names {repeated} twice")
