# SPDX-License-Identifier: Apache-2.0
"""The output folder of a conversion, complete or absent."""

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import shutil

from filax import files
from filax.disk_errors import is_disk_full

EXTRA_FILE = "extra.safetensors"  # Imported tensors that only other software uses.
FUSION_FILE = "fila/scene_merger.safetensors"  # The fusion weights of an exported folder.
TOKENIZER_FILES = (  # Copied from the source as they are.
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.json",
  "chat_template.jinja",
  "generation_config.json",
)


@contextlib.contextmanager
def create_output_folder(
  out: str | os.PathLike, size: int = 0, knob: str = "--out"
) -> Iterator[Path]:
  """Yields a temporary folder and renames it to `out` at the end.

  It lies beside `out` and is removed on any failure. `size`: bytes of the weights. `knob`: what
  chooses `out`. Raises OSError if `out` exists, if there is less space than that, or if the disk
  fills up.
  """
  out = Path(files.absolute(out))
  exists = f"{out} exists already. Choose another {knob}, or remove it."
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise FileExistsError(exists)
  files.remove_leftovers(out.parent)
  try:
    with files.write_folder_atomically(out) as temporary:
      _check_space(temporary, size)
      yield temporary
  except BaseException as error:
    if getattr(error, "errno", None) == errno.ENOTEMPTY:  # Another process has created it.
      raise FileExistsError(exists) from error
    if is_disk_full(error):
      free = shutil.disk_usage(out.parent).free
      raise OSError(
        f"There is no space for {out}: its weights take {_size_text(size)}, and "
        f"{_size_text(free)} are free without it. Make room or choose another {knob}. Nothing was "
        f"left behind."
      ) from error
    raise


def _check_space(folder: Path, size: int) -> None:
  if shutil.disk_usage(folder).free < size:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _size_text(size: int) -> str:
  return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"
