# SPDX-License-Identifier: Apache-2.0
"""Errors of a full disk, quota or temporary folder."""

from collections.abc import Iterator
import contextlib
import errno
import os
import shutil
import tempfile

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_FOLDER = "No usable temporary directory"  # How Python begins, whatever the reason.
_REMEDY = "Set TMPDIR to a folder with more room, or free space."
_LITTLE = 16 << 20  # Bytes; a temporary folder with fewer free ones is taken for the full one.


class TemporaryFolderFull(OSError):
  """The temporary folder is full, and no disk of an output."""


def is_disk_full(error: BaseException) -> bool:
  """Whether Python, TensorStore or XLA reports a full disk or quota."""
  if isinstance(error, OSError) and (error.errno in _CODES or _NO_FOLDER in str(error)):
    return True
  message = str(error)
  return any(os.strerror(code) in message for code in _CODES)


def disk_sentence(error: BaseException) -> str:
  """What such an error says to a user, in one line."""
  code = error.errno if isinstance(error, OSError) and error.errno in _CODES else errno.ENOSPC
  reason = os.strerror(code)
  if _NO_FOLDER in str(error):
    return f"There is no temporary folder with room: {error}. Set TMPDIR to one."
  temporary = _temporary_folder()
  name = error.filename if isinstance(error, OSError) else None
  if name is None and shutil.disk_usage(temporary).free >= _LITTLE:
    return f"What was to be written found no room: {reason}. Free space, or write elsewhere."
  if name is not None:
    name = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    is_temporary = os.path.commonpath([os.path.abspath(name), temporary]) == temporary
    return f"{name}: {reason}.{f' {_REMEDY}' if is_temporary else ''}"
  return temporary_sentence()


def temporary_sentence() -> str:
  """What a full temporary folder says to a user."""
  return f"The temporary folder {_temporary_folder()} is full. {_REMEDY}"


def _temporary_folder() -> str:
  """The temporary folder, also if it is full."""
  try:
    return tempfile.gettempdir()
  except FileNotFoundError:
    return "/tmp"


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Lets an error of a full disk in the block name `path`.

  The system names a file that cannot be opened, but none that cannot grow.
  """
  try:
    yield
  except OSError as error:
    if error.errno in _CODES and error.filename is None:
      error.filename = os.fspath(path)
    raise


@contextlib.contextmanager
def naming_temporary_folder() -> Iterator[None]:
  """Raises TemporaryFolderFull if the disk is full in the block.

  The block may write to the temporary folder alone.
  """
  try:
    yield
  except Exception as error:
    if is_disk_full(error):
      raise TemporaryFolderFull(temporary_sentence()) from error
    raise
