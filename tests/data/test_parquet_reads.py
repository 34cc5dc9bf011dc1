# SPDX-License-Identifier: Apache-2.0
"""How often the row groups of a Parquet manifest are read."""

import errno
import functools
import gc
import os
import pathlib
import random
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.manifest import parquet_records
from data_pipelines.manifest.parquet_records import parquet_record_at
from data_pipelines.manifest.report import RecordError
from data_pipelines.media import kept_tables, parquet_cells
from data_pipelines.media.kept_tables import KeptTables

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = ("b", "c", "d", "e", "f", "video")


@pytest.fixture
def reads(monkeypatch):
  """(row group, columns) of each reading."""
  listed = []
  original = parquet_cells.ParquetRows.read_batches

  def counted(rows, group, leaves):
    listed.append((group, *leaves))
    return original(rows, group, leaves)

  monkeypatch.setattr(parquet_cells.ParquetRows, "read_batches", counted)
  return listed


def write(path, rows, group, **columns):
  table = pa.table(dict(id=[f"id{row}" for row in range(rows)], **columns))
  pq.write_table(table, path, row_group_size=group)
  return str(path)


def mixed(rows, kind=FILE):
  cells = []
  for row in range(rows):
    cells.append(dict(bytes=b"x" if row % 3 else None, path=f"{row}.mp4"))
  return pa.array(cells, kind)


def shuffled_ids(path, rows):
  order = list(range(rows))
  random.Random(0).shuffle(order)
  with open(path, "rb") as file:
    for row in order:
      assert parquet_record_at(path, file, row)["id"] == f"id{row}"


def test_a_shuffled_epoch_reads_each_row_group_once(reads, tmp_path):
  path = write(tmp_path / "x.parquet", 600, 3)
  shuffled_ids(path, 600)
  assert len(reads) == 200


def test_row_groups_beyond_the_memory_are_mapped(reads, tmp_path, monkeypatch):
  kept = KeptTables(1000, 500, 1 << 20)
  monkeypatch.setattr(parquet_records, "_kept", kept)
  path = write(tmp_path / "x.parquet", 300, 3)
  before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
  shuffled_ids(path, 300)
  assert len(reads) == 100
  after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
  assert after <= before + 2


def test_many_columns_with_some_bytes_are_read_once(reads, tmp_path):
  path = write(tmp_path / "x.parquet", 40, 20, **dict.fromkeys(COLUMNS, mixed(40)))
  with open(path, "rb") as file:
    for row in (3, 30, 4, 5, 39, 0):
      record = parquet_record_at(path, file, row)
      for column in COLUMNS:
        assert record[column] == (f"{path}#{row}/{column}" if row % 3 else f"{row}.mp4")
  assert len(reads) == len(set(reads)) == 2 * (1 + len(COLUMNS))


def test_a_file_of_bytes_alone(reads, tmp_path):
  path = str(tmp_path / "x.parquet")
  pq.write_table(pa.table(dict(image=pa.array([b"x", None, b"y"]))), path)
  with open(path, "rb") as file:
    images = [parquet_record_at(path, file, row)["image"] for row in (2, 1, 0)]
  assert images == [f"{path}#2/image", None, f"{path}#0/image"]
  assert len(reads) == 1


@pytest.mark.parametrize("lists", [pa.list_, pa.large_list])
def test_lists_with_some_bytes(lists, reads, tmp_path):
  cells = [dict(bytes=b"x", path="a.png"), dict(bytes=None, path="b.png")]
  images = pa.array([cells, None, [], cells[1:]], lists(FILE))
  path = write(tmp_path / "x.parquet", 4, 4, images=images)
  with open(path, "rb") as file:
    named = [parquet_record_at(path, file, row)["images"] for row in range(4)]
  assert named == [[f"{path}#0/images/0", "b.png"], [], [], ["b.png"]]
  assert len(reads) == 2


def test_a_file_opened_again_is_not_read_again(reads, tmp_path):
  path = write(tmp_path / "x.parquet", 40, 40)
  for row in (30, 2, 17):
    with open(path, "rb") as file:
      assert parquet_record_at(path, file, row)["id"] == f"id{row}"
  assert len(reads) == 1


def test_a_changed_file_is_read_again(reads, tmp_path):
  path = write(tmp_path / "x.parquet", 4, 4)
  with open(path, "rb") as file:
    parquet_record_at(path, file, 0)
  table = pq.read_table(path).slice(1)
  pq.write_table(table, path)
  with open(path, "rb") as file:
    assert parquet_record_at(path, file, 0)["id"] == "id1"
  assert len(reads) == 2


def test_a_closed_file_is_forgotten(tmp_path):
  path = write(tmp_path / "x.parquet", 4, 4)
  gc.collect()
  before = len(parquet_records._open_rows)
  with open(path, "rb") as file:
    parquet_record_at(path, file, 0)
  del file
  gc.collect()
  assert len(parquet_records._open_rows) == before


def test_a_damaged_row_group_is_tried_once(reads, tmp_path):
  path = write(tmp_path / "x.parquet", 3000, 3000)
  content = bytearray(pathlib.Path(path).read_bytes())
  content[4:2000] = b"\xff" * 1996
  pathlib.Path(path).write_bytes(content)
  with open(path, "rb") as file:
    records = [located.record for located in parquet_records.parquet_records(path, file)]
    assert len(reads) == 1
    for row in (7, 8, 2000):
      with pytest.raises(ValueError, match="damaged"):
        parquet_record_at(path, file, row)
  assert len(records) == 3000 and {type(record) for record in records} == {RecordError}
  assert len(reads) == 2


def test_a_row_group_is_tried_again_after_an_error_of_the_disk(reads, tmp_path, monkeypatch):
  path = write(tmp_path / "x.parquet", 4, 4)
  full = OSError(errno.ENOSPC, "No space left on device")
  with open(path, "rb") as file:
    with monkeypatch.context() as patch:
      patch.setattr(parquet_cells.ParquetRows, "read_batches", mock.Mock(side_effect=full))
      with pytest.raises(ValueError, match="No space left"):
        parquet_record_at(path, file, 1)
    assert parquet_record_at(path, file, 1)["id"] == "id1"


def test_a_pass_over_a_file_keeps_no_row_groups(reads, tmp_path, monkeypatch):
  kept = KeptTables(100, 1 << 20, 1 << 20)
  monkeypatch.setattr(parquet_records, "_kept", kept)
  path = write(tmp_path / "x.parquet", 40, 4)
  with open(path, "rb") as file:
    assert len(list(parquet_records.parquet_records(path, file))) == 40
  assert len(reads) == 10 and kept._held == 0


def test_a_row_with_text_that_is_no_utf8_is_bad_alone(tmp_path):
  texts = pa.array([b"a", b"\xff\xfe", b"c"]).view(pa.string())
  path = str(tmp_path / "x.parquet")
  pq.write_table(pa.table(dict(caption=texts)), path)
  with open(path, "rb") as file:
    records = [located.record for located in parquet_records.parquet_records(path, file)]
    again = [parquet_record_at(path, file, row) for row in (0, 2)]
    with pytest.raises(ValueError, match="utf-8"):
      parquet_record_at(path, file, 1)
  assert again == [records[0], records[2]] == [{"caption": "a"}, {"caption": "c"}]
  assert isinstance(records[1], RecordError)


def test_rows_in_order_become_objects_many_at_a_time(tmp_path, monkeypatch):
  path = write(tmp_path / "x.parquet", 2000, 2000)
  chunks = []
  original = parquet_records.ParquetRecords.records

  def counted(records, group, begin, end):
    chunks.append((begin, end))
    return original(records, group, begin, end)

  monkeypatch.setattr(parquet_records.ParquetRecords, "records", counted)
  with open(path, "rb") as file:
    for row in (*range(900, 2000), 0, 7, 8):
      assert parquet_record_at(path, file, row)["id"] == f"id{row}"
  assert len(chunks) == 7


def batches(size):
  yield pa.record_batch({"x": [bytes(size)]})


def test_kept_tables_stay_within_their_bounds(monkeypatch):
  monkeypatch.setattr(kept_tables, "LARGEST_HELD", 1000)
  kept = KeptTables(20, 3000, 5000)
  for key in range(50):
    kept.read_table(key, functools.partial(batches, 900 if key % 2 else 1100))
    assert kept._held <= 3000 and kept._mapped <= 5000 and len(kept._kept) <= 20
  assert kept.kept_table(49).column("x")[0].as_py() == bytes(900)
  assert kept.kept_table(48).column("x")[0].as_py() == bytes(1100)
  assert kept.kept_table(0) is None


def test_a_table_beyond_all_bounds_is_given(monkeypatch):
  kept = KeptTables(2, 10, 10)
  assert kept.read_table("large", functools.partial(batches, 1000)).num_rows == 1
