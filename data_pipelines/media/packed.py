# SPDX-License-Identifier: Apache-2.0
"""Media inside other files: names, files to read, and identities.

"x.array_record#key", "x.tar#member", "x.parquet#row/column".
"""

from collections.abc import Callable
import io
import os
from typing import Any, BinaryIO

from data_pipelines.media import array_record, parquet_cells, tar_members


def is_inside(media: str | os.PathLike) -> bool:
  """Whether a name is that of a medium inside another file."""
  return outer_file(media) is not None


def outer_file(media: str | os.PathLike) -> str | None:
  """The file that a medium is in.

  It is None if the medium is a file of its own.
  """
  for split in (array_record.split_name, tar_members.split_member, parquet_cells.split_cell):
    parts: tuple[Any, ...] | None = split(media)
    if parts is not None:
      return parts[0]
  return None


def dated_file(media: str | os.PathLike) -> str | None:
  """The file whose size and time tell whether a medium changed.

  None for a record of an ArrayRecord, which may have many files.
  """
  if array_record.split_name(media) is not None:
    return None
  return outer_file(media) or os.fspath(media)


def open_inside(media: str | os.PathLike, open_regular: Callable[[str], BinaryIO]) -> BinaryIO:
  """The content of a medium inside another file, as a file.

  open_regular opens the other file and refuses pipes and devices. Raises ValueError or OSError.
  """
  record = array_record.split_name(media)
  if record is not None:
    return io.BytesIO(array_record.read_record(*record))
  member = tar_members.split_member(media)
  if member is not None:
    file = open_regular(member[0])
    try:
      return tar_members.open_member(member[0], file, member[1])
    except BaseException:
      file.close()
      raise
  cell = parquet_cells.split_cell(media)
  if cell is None:
    raise TypeError(f"{os.fspath(media)} lies in no other file")
  with open_regular(cell[0]):  # Refuses what is not a regular file.
    pass
  return parquet_cells.cell_file(*cell)


def place_inside(media: str | os.PathLike) -> tuple[str, Any]:
  """(file, place in it) of a medium inside another file."""
  record = array_record.split_name(media)
  if record is not None:
    return array_record.locate(*record)
  member = tar_members.split_member(media)
  if member is not None:
    return member
  cell = parquet_cells.split_cell(media)
  if cell is None:
    raise TypeError(f"{os.fspath(media)} lies in no other file")
  return cell[0], cell[1:]
