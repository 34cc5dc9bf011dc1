# SPDX-License-Identifier: Apache-2.0
"""Records by name: "x.array_record#key" is one record of an ArrayRecord file or data set.

x.array_record is a file, or the common name of shards (x.array_record-00000-of-00004 …). Where a
table of keys lies beside it (`builders` writes one), key is a name of the table and the record a
TFDS example that holds the media. Without a table, key is a number and the record the media itself.
"""

from collections.abc import Iterator
import functools
import json
import os
import re

from filax.files import write_atomically

KEYS = ".keys.json"  # x.array_record.keys.json: {key: [shard file, record number]}.


def split(media: str | os.PathLike | bytes) -> tuple[str, str] | None:
  """("x.array_record", "key") of "x.array_record#key"; None for any other media."""
  if isinstance(media, bytes):
    return None
  found = re.fullmatch(r"(.+?\.array_record[^#/]*)#(.+)", os.fspath(media), re.DOTALL)
  return (found[1], found[2]) if found else None


def shards(path: str | os.PathLike) -> list[str]:
  """The files behind x.array_record in order; FileNotFoundError if there are none."""
  path = os.fspath(path)
  if os.path.isfile(path):
    return [path]
  folder, stem = os.path.split(path)
  pattern = re.compile(re.escape(stem) + r"-[0-9]+-of-[0-9]+")
  names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
  if not (found := sorted(n for n in names if pattern.fullmatch(n))):
    raise FileNotFoundError(f"{path} does not exist")
  return [os.path.join(folder, n) for n in found]


def locate(path: str, key: str) -> tuple[str, int]:
  """(shard file, record number) of a key; OSError or ValueError saying what is wrong with it."""
  if (table := keys(path)) is not None:
    if key not in table:
      raise ValueError(f"the data set has {len(table)} records, but none of that key")
    shard, record = table[key]
    return os.path.join(os.path.dirname(path), shard), record
  files = shards(path)
  if not key.isdecimal():
    raise ValueError(f"no {os.path.basename(path)}{KEYS} is there, so a key is a record number")
  record = int(key)
  for shard in files:
    if record < (count := _reader(shard, os.stat(shard).st_mtime_ns).num_records()):
      return shard, record
    record -= count
  raise ValueError("the file has fewer records")


def read(path: str, key: str) -> bytes:
  """The media of one record."""
  shard, record = locate(path, key)
  data = _reader(shard, os.stat(shard).st_mtime_ns).read([record])[0]
  return data if keys(path) is None else fields(data)["media"]


def keys(path: str | os.PathLike) -> dict[str, list] | None:
  """key -> [shard file, record number] of a data set, None where there is no table of keys."""
  table = os.fspath(path) + KEYS
  return _table(table, os.stat(table).st_mtime_ns) if os.path.isfile(table) else None


def records(path: str | os.PathLike) -> Iterator[bytes]:
  """All records of x.array_record, shard after shard, one in memory at a time."""
  for shard in shards(path):
    reader = _reader(shard, os.stat(shard).st_mtime_ns)
    for record in range(reader.num_records()):
      yield reader.read([record])[0]


def fields(example: bytes) -> dict[str, bytes]:
  """The bytes features of a serialised TFDS example."""
  from google.protobuf.message import DecodeError  # Half a second; most runs never need these.
  from tensorflow_datasets.proto import tf_example_pb2

  try:
    features = tf_example_pb2.Example.FromString(example).features.feature
    return {name: feature.bytes_list.value[0] for name, feature in features.items()}
  except (DecodeError, IndexError) as error:
    raise ValueError("holds a record that is no TFDS example") from error


def write_keys(path: str | os.PathLike):
  """Writes the table of keys of a TFDS data set whose examples have the features key and media."""
  path, table = os.fspath(path), {}
  for shard in shards(path):
    reader = _reader(shard, os.stat(shard).st_mtime_ns)
    for record in range(reader.num_records()):
      key = fields(reader.read([record])[0])["key"].decode()
      table[key] = [os.path.basename(shard), record]
  with write_atomically(path + KEYS) as file:
    file.write(json.dumps(table).encode())


@functools.lru_cache(maxsize=16)
def _table(table: str, changed: int) -> dict[str, list]:
  with open(table, "rb") as file:
    return json.load(file)


@functools.lru_cache(maxsize=64)
def _reader(shard: str, changed: int):
  """One reader a shard for all threads; reading is thread-safe."""
  from array_record.python import array_record_module

  return array_record_module.ArrayRecordReader(shard)
