# SPDX-License-Identifier: Apache-2.0
"""Records by name: "x.array_record#key" is one record.

x.array_record is a file, or the common name of shards (x.array_record-00000-of-00004 …). With a
table of keys beside it (`build_array_record` writes one), key is a name of the table and the record
a TFDS example that contains the media. Without a table, key is a number and the record the media
itself.
"""

import bisect
from collections.abc import Iterator
import contextlib
import functools
import json
import os
import re

from data_pipelines.media import remote
from filax.files import write_atomically

KEYS = ".keys.json"  # x.array_record.keys.json: {key: [shard file, record number]}.
_NAME = re.compile(r"(.+?\.array_record[^#/]*)#(.+)", re.DOTALL)


def split_name(media: str | os.PathLike | bytes) -> tuple[str, str] | None:
  """Splits "x.array_record#key" into file and key; None for other media."""
  if isinstance(media, bytes):
    return None
  match = _NAME.fullmatch(os.fspath(media))
  if match is None:
    return None
  return match[1], match[2]


def shards(path: str | os.PathLike) -> list[str]:
  """The files of x.array_record in order. Raises FileNotFoundError if there are none."""
  path = os.fspath(path)
  if remote.is_file(path):
    return [path]
  folder, stem = os.path.split(path)
  pattern = re.compile(re.escape(stem) + r"-[0-9]+-of-[0-9]+")
  files = []
  with contextlib.suppress(FileNotFoundError, NotADirectoryError):
    for name in sorted(remote.file_names(folder or ".")):
      if pattern.fullmatch(name):
        files.append(os.path.join(folder, name))
  if not files:
    raise FileNotFoundError(f"{path} does not exist")
  return files


def locate(path: str, key: str) -> tuple[str, int]:
  """(shard file, record number) of a key.

  Raises OSError for a missing file, ValueError for an unknown key.
  """
  table = keys(path)
  if table is not None:
    if key not in table:
      raise ValueError(f"the data set has {len(table)} records, but none of that key")
    shard, record = table[key]
    return os.path.join(os.path.dirname(path), shard), record
  if not key.isdecimal():
    shards(path)  # Raises if there is no such file.
    raise ValueError(f"no {os.path.basename(path)}{KEYS} is there, so a key is a record number")
  place = _place(path, int(key))
  if place is None:
    raise ValueError("the file has fewer records")
  return place


def read_record(path: str, key: str) -> bytes:
  """The media of one record."""
  shard, record = locate(path, key)
  data = _record(_reader(shard), record)
  if keys(path) is None:
    return data
  return fields(data)["media"]


def keys(path: str | os.PathLike) -> dict[str, list] | None:
  """The table of keys: {key: [shard file, record number]}, or None."""
  table = os.fspath(path) + KEYS
  if not remote.is_file(table):
    return None
  table = remote.local_path(table)
  return _parsed_keys(table, os.stat(table).st_mtime_ns)


def read_records(path: str | os.PathLike) -> Iterator[bytes]:
  """All records of x.array_record, one in memory at a time."""
  for shard in shards(path):
    reader = _reader(shard)
    for record in range(reader.num_records()):
      yield _record(reader, record)


def read_number(path: str, number: int) -> bytes:
  """The record with this number, counted over all shards."""
  place = _place(path, number)
  if place is None:
    raise ValueError(f"{path} has fewer records than when it was read first")
  shard, record = place
  return _record(_reader(shard), record)


def fields(example: bytes) -> dict[str, bytes]:
  """The bytes features of a serialised TFDS example.

  Raises ValueError for other records.
  """
  from google.protobuf.message import DecodeError  # Imports of half a second, rarely needed.
  from tensorflow_datasets.proto import tf_example_pb2

  try:
    features = tf_example_pb2.Example.FromString(example).features.feature
    return {name: feature.bytes_list.value[0] for name, feature in features.items()}
  except (DecodeError, IndexError) as error:
    raise ValueError("holds a record that is not a TFDS example") from error


def write_keys(path: str | os.PathLike):
  """Writes the table of keys of a TFDS data set.

  Its examples have the features key and media.
  """
  path = os.fspath(path)
  table = {}
  for shard in shards(path):
    reader = _reader(shard)
    for record in range(reader.num_records()):
      key = fields(_record(reader, record))["key"].decode()
      table[key] = [os.path.basename(shard), record]
  with write_atomically(path + KEYS) as file:
    file.write(json.dumps(table).encode())


@functools.lru_cache(maxsize=16)
def _parsed_keys(table: str, changed: int) -> dict[str, list]:
  """The content of a table of keys.

  changed: its modification time in nanoseconds, so that a changed table is read again.
  """
  with open(table, "rb") as file:
    return json.load(file)


def _place(path: str, number: int) -> tuple[str, int] | None:
  """(shard, number in it) of a record; None beyond the last."""
  files, firsts = _shard_table(path, _folder_change(path))
  shard = bisect.bisect_right(firsts, number) - 1
  if shard == len(files):
    return None
  return files[shard], number - firsts[shard]


@functools.lru_cache(maxsize=64)
def _shard_table(path: str, changed: int) -> tuple[list[str], list[int]]:
  """The shards, and the numbers of their first records.

  The last number is the count of all records. Counting opens every shard, which is too much for
  every record. changed: see _folder_change.
  """
  del changed
  files = shards(path)
  firsts = [0]
  for shard in files:
    firsts.append(firsts[-1] + _reader(shard).num_records())
  return files, firsts


def _folder_change(path: str) -> int:
  """When shards were last added or removed.

  In nanoseconds; 0 in a bucket.
  """
  if remote.is_remote(path):
    return 0
  return os.stat(os.path.dirname(path) or ".").st_mtime_ns


def _record(reader, number: int) -> bytes:
  return reader.read([number])[0]


def _reader(shard: str):
  """The reader of a shard's current version."""
  shard = remote.local_path(shard)
  return _reader_of_version(shard, os.stat(shard).st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _reader_of_version(shard: str, changed: int):
  """One reader a shard for all threads; reading is thread-safe."""
  from array_record.python import array_record_module

  return array_record_module.ArrayRecordReader(shard)
