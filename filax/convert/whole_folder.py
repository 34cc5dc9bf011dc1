# SPDX-License-Identifier: Apache-2.0
"""A folder appears under its name when it is complete, or not at all."""

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import shutil

from filax import files


@contextlib.contextmanager
def complete(out: str | os.PathLike, need: int = 0) -> Iterator[Path]:
  """Yields a temporary folder beside `out` and renames it at the end; removes it on any failure.

  Raises OSError if `out` exists, if fewer than `need` bytes are free, or if the disk fills up.
  """
  out = Path(files.absolute(out))
  exists = f"{out} exists already. Choose another --out, or remove it."
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise FileExistsError(exists)
  files.remove_leftovers(out.parent)
  try:
    with files.write_folder_atomically(out) as temporary:
      _check_space(temporary, need)
      yield temporary
  except BaseException as error:
    if getattr(error, "errno", None) == errno.ENOTEMPTY:  # Another call was faster.
      raise FileExistsError(exists) from error
    if _full(error):
      free = shutil.disk_usage(out.parent).free
      raise OSError(
        f"There is no space for {out}: its weights take {_gb(need)}, and {_gb(free)} are free "
        f"without it. Make room or choose another --out. Nothing was left behind."
      ) from error
    raise


def _check_space(folder: Path, need: int) -> None:
  if shutil.disk_usage(folder).free < need:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full(error: BaseException) -> bool:
  """Whether a disk or quota ran out, as Python or as TensorStore says it."""
  codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
  words = [os.strerror(code) for code in codes]
  return getattr(error, "errno", None) in codes or any(word in str(error) for word in words)


def _gb(size: int) -> str:
  return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"
