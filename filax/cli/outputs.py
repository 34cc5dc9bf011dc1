# SPDX-License-Identifier: Apache-2.0
"""Checks that results can be written, before the work that makes them."""

from collections.abc import Sequence
import os
import pathlib
import tempfile


def check_folder(path: str | os.PathLike) -> None:
  """Makes a folder for results and tries to write to it.

  It may exist. Raises ValueError naming --out if that fails.
  """
  obstacle = _obstacle(path)
  if obstacle:
    raise ValueError(f"--out {path} cannot be written ({obstacle}). Name another folder.")


def check_file(path: str | os.PathLike, suffixes: Sequence[str] = ()) -> None:
  """Makes the folder of a file for results, and writes to it.

  Raises ValueError naming --out if that fails, for a folder, and without one of `suffixes`.
  """
  file = pathlib.Path(path)
  if suffixes and file.suffix.lower() not in suffixes:
    raise ValueError(f"--out {path} must end in {' or '.join(suffixes)}.")
  if file.is_dir():
    raise ValueError(f"--out {path} is a folder. Name a file in it.")
  obstacle = _obstacle(file.parent)
  if obstacle:
    raise ValueError(f"--out {path} cannot be written ({obstacle}). Name another file.")


def _obstacle(folder: str | os.PathLike) -> str:
  """The reason why a folder cannot be written to, or "".

  The folder is made if it is missing.
  """
  try:
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=os.fspath(folder)):
      return ""
  except OSError as error:
    return error.strerror or str(error)
