# SPDX-License-Identifier: Apache-2.0
"""Digests of checkpoints and annotation files, to recognise them again."""

import hashlib
import os
import pathlib

from data_pipelines.media import remote
from filax.checkpoint.run_folder import step_folders

SMALL = 1 << 16  # Bytes: a smaller file of a checkpoint counts with its content.


def checkpoint_hash(path: str | os.PathLike) -> str:
  """A digest of the newest checkpoint; "" if not local.

  It depends on the names and sizes of its files, and on the content of small ones, among which are
  the digests of the arrays.
  """
  folder = pathlib.Path(path).expanduser()
  if not os.fspath(path) or not folder.is_dir():
    return ""
  (step, *_) = [*step_folders(folder), folder]
  return _folder_hash(pathlib.Path(step))


def annotation_hash(path: str | os.PathLike) -> str:
  """The sha256 of an annotation file; "" if absent."""
  if not remote.is_remote(path) and os.path.isdir(path):
    return _folder_hash(pathlib.Path(path))
  if not remote.is_file(path):
    return ""
  with open(remote.local_path(path), "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_hash(folder: pathlib.Path) -> str:
  digest = hashlib.sha256()
  paths = [path for path in folder.rglob("*") if path.is_file()]
  for path in sorted(paths):
    size = path.stat().st_size
    digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
    if size <= SMALL:
      digest.update(path.read_bytes())
  return digest.hexdigest()
