# SPDX-License-Identifier: Apache-2.0
"""Writes records as .json, .jsonl, .parquet or a WebDataset .tar, one after the other."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import io
import json
import os
import tarfile
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.media.container import media_kind, open_video
from data_pipelines.media.open import Media, file_path, is_packed, open_file, open_packed, reported

SUFFIXES = (".json", ".jsonl", ".parquet", ".tar")
EXTRA = "other"  # The column of a Parquet file with a record's further keys, as JSON.
_GROUP_ROWS = 1000  # Rows of a row group of texts.
_GROUP_BYTES = 64 << 20  # Bytes of a row group with media.
_LARGEST_CELL = 1 << 30  # Bytes: Arrow holds a column of a row group at once.

Record = Mapping[str, Any]

_SCENE = pa.struct(
  [
    ("media", pa.string()),
    ("kind", pa.string()),
    ("t0", pa.float64()),
    ("t1", pa.float64()),
    ("at", pa.float64()),
  ]
)
_TURN = pa.struct([("from", pa.string()), ("value", pa.string())])
_PART = pa.struct(
  [
    ("type", pa.string()),
    ("text", pa.string()),
    ("image", pa.string()),
    ("video", pa.string()),
    ("video_start", pa.float64()),
    ("video_end", pa.float64()),
    ("scenes", pa.list_(_SCENE)),
  ]
)
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(_PART))])
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class RecordWriter(Protocol):
  """Writes records one after the other."""

  def add_record(self, record: Record, extra: Record) -> None:
    """Writes a record and its further keys."""

  def write_end(self) -> None:
    """Writes what is left, and the end."""


class JsonWriter:
  """One record a line, as an array or as lines alone."""

  def __init__(self, file: BinaryIO, lines: bool):
    self._file = file
    self._lines = lines
    self._count = 0

  def add_record(self, record: Record, extra: Record) -> None:
    text = json.dumps({**extra, **record}, ensure_ascii=False)
    if self._lines:
      text += "\n"
    elif self._count:
      text = f",\n{text}"
    else:
      text = f"[\n{text}"
    self._file.write(text.encode())
    self._count += 1

  def write_end(self) -> None:
    if not self._lines:
      self._file.write(b"\n]\n" if self._count else b"[]\n")


class ParquetWriter:
  """A row a record.

  Keys without a column of their own are JSON in EXTRA.
  With `bytes`, pictures and videos are structs {bytes, path}.
  """

  def __init__(self, file: BinaryIO, shape: str, content: bool):
    self._content = content
    self.folders: set[str] = set()  # Names of folders of pictures, which no cell can hold.
    self.names: dict[str, str] = {}  # What media are called where their bytes are not stored.
    self._shape = shape
    text = pa.string()
    seconds = pa.list_(pa.float64())
    fields = [("id", text), ("kind", text), (EXTRA, text)]
    if shape == "messages":
      fields.append(("messages", pa.list_(_MESSAGE)))
    else:
      media = pa.list_(_FILE if content else text)
      fields += [("image", media), ("video", media), ("start", seconds), ("end", seconds)]
      fields.append(("scenes", pa.list_(pa.list_(_SCENE))))
      fields.append(("conversations", pa.list_(_TURN)))
    self._schema = pa.schema(fields)
    self._writer = pq.ParquetWriter(file, self._schema)
    self._rows: list[Record] = []
    self._size = 0

  def add_record(self, record: Record, extra: Record) -> None:
    row = dict(record)
    row[EXTRA] = json.dumps(extra, ensure_ascii=False) if extra else None
    for key in ("image", "video", "start", "end"):
      if key in row and not isinstance(row[key], list):
        row[key] = [row[key]]
    if "messages" in row:
      row["messages"] = [_with_parts(message) for message in row["messages"]]
    scenes = row.get("scenes")
    if scenes and isinstance(scenes[0], Mapping):
      row["scenes"] = [scenes]
    if self._content:
      if scenes:
        row["scenes"] = [self._named_scenes(timeline) for timeline in row["scenes"]]
      for key in ("image", "video"):
        row[key] = [self._file_of(media) for media in row.get(key, ())]
    self._rows.append(row)
    if len(self._rows) >= _GROUP_ROWS or self._size >= _GROUP_BYTES:
      self._write_group()

  def write_end(self) -> None:
    self._write_group()
    self._writer.close()

  def _named_scenes(self, timeline: Sequence[Record]) -> list[Record]:
    scenes: list[Record] = []
    for scene in timeline:
      media = scene["media"]
      scenes.append({**scene, "media": self.names.get(media, media)})
    return scenes

  def _file_of(self, media: str) -> Record:
    if media in self.folders:
      return dict(bytes=None, path=media)
    with opened_medium(media) as file:
      length = file.seek(0, os.SEEK_END)
      if length > _LARGEST_CELL:
        raise ValueError(
          f"{media}: has {length / 1e9:.1f} GB, too much for a cell of a Parquet file"
        )
      file.seek(0)
      data = file.read()
    self._size += length
    return dict(bytes=data, path=os.path.basename(media))

  def _write_group(self) -> None:
    if self._rows:
      table = pa.Table.from_pylist(self._rows, schema=self._schema)
      self._writer.write_table(table)
    self._rows = []
    self._size = 0


def _with_parts(message: Record) -> Record:
  """A message whose content is a list: a column has one type."""
  content = message["content"]
  if isinstance(content, str):
    content = [dict(type="text", text=content)]
  return {**message, "content": content}


class TarWriter:
  """A WebDataset: members 00000000.json, 00000000.0.mp4 … for each record.

  A medium that several records show is stored with the first; the others name it "#member".
  """

  def __init__(self, file: BinaryIO):
    self._tar: Any = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
    self._count = 0
    self._stored: dict[str, str] = {}  # Medium -> member.
    self._added: list[tuple[str, str]] = []  # Media of the record that is being made.

  def member(self, media: str) -> str:
    """The name of a medium in the next record."""
    if media not in self._stored:
      extension = os.path.splitext(media.rpartition("/")[2])[1].lower()
      name = f"{self._count:08}.{len(self._added)}{extension or '.bin'}"
      self._stored[media] = name
      self._added.append((media, name))
    return f"#{self._stored[media]}"

  def add_record(self, record: Record, extra: Record) -> None:
    text = json.dumps({**extra, **record}, ensure_ascii=False).encode()
    with contextlib.ExitStack() as stack:
      # All are opened before anything is written, because a tar cannot take a member back.
      opened = [(name, stack.enter_context(opened_medium(media))) for media, name in self._added]
      self._add(f"{self._count:08}.json", io.BytesIO(text), len(text))
      for name, file in opened:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._add(name, file, length)
    self._added = []
    self._count += 1

  def drop_record(self) -> None:
    """Forgets the media of a record that is not written."""
    for media, _ in self._added:
      del self._stored[media]
    self._added = []

  def write_end(self) -> None:
    self._tar.close()

  def _add(self, name: str, file: BinaryIO, length: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = length
    self._tar.addfile(info, file)
    self._tar.members.clear()  # tarfile keeps all members, a writer needs none.


@contextlib.contextmanager
def opened_medium(media: Media) -> Iterator[BinaryIO]:
  """The content of a picture or video that is one file.

  Raises MediaError, also for any other file: a manifest of somebody else may name a private key,
  and what is written here may be published.
  """
  if media_kind(media) == "video":  # Whatever does not begin like a picture.
    with open_video(media):
      pass
  with reported(media):
    file = open_packed(media) if is_packed(media) else open_file(file_path(media))
  with file, reported(media):
    yield file
