# SPDX-License-Identifier: Apache-2.0
"""Blocks of a manifest hold the records, lines and errors of the manifest read as a whole."""

import json
import random

import pyarrow
import pyarrow.parquet
import pytest

from data_pipelines.manifest import record_blocks
from data_pipelines.manifest.reader import ManifestError, manifest_records

# Lines of which a random file is put together.
LINES = [
  *('{"a": 1}', '{"é": "ü😀"}', "{}", ' {"a": 5}', '{"a":\n[1,\n2]}', '{"a": 1}\r'),
  *('{"a": {"b": 1}', '{"a": "x}', '{"a":1} x}', '{"a":1}}', '{"a": 1, "a": 2}', '{"a":1,'),
  *("nonsense", '"x": 3}', '{"x": "\\}', "[1]", "1", ', "c": 2}', "null", "", "  ", "]}", "{", "}"),
]


def compared(records):
  """Lines and records, with errors as text."""
  return [(line, str(record)) for line, record in records]


def blocks_of(path):
  return list(record_blocks.record_blocks(path))


def records_of(blocks):
  for block in blocks:
    yield from record_blocks.block_records(block)


@pytest.mark.parametrize("size", [1, 20, 100])
def test_damaged_lines_are_the_same_in_blocks(size, tmp_path, monkeypatch):
  monkeypatch.setattr(record_blocks, "BLOCK", size)
  monkeypatch.setattr(record_blocks, "RECORDS", 2)
  path = tmp_path / "m.jsonl"
  texts = 0
  for seed in range(150):
    draw = random.Random(seed)
    share = draw.choice([3, 30, 300])
    weights = [share] + [1] * (len(LINES) - 1)
    lines = [LINES[0], *draw.choices(LINES, weights, k=draw.randint(1, 40))]
    text = draw.choice(["", "\ufeff", "\n"]) + "\n".join(lines) + draw.choice(["", "\n", "\n\n "])
    path.write_bytes(text.encode().replace(b"x", draw.choice([b"x", b"\xff\xe2"])))
    blocks = blocks_of(path)
    texts += sum(bool(block.text) for block in blocks)
    assert compared(records_of(blocks)) == compared(manifest_records(path)), seed
  assert texts > 50


def test_text_is_not_parsed_where_it_is_read(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_text('{"a": 1}\n' * 100_000)
  blocks = blocks_of(path)
  assert all(block.text for block in blocks)
  assert b"".join(block.text for block in blocks) == path.read_bytes()
  assert max(len(block.text) for block in blocks) < record_blocks.BLOCK + 20


def test_blocks_are_text_again_after_a_damaged_record(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_text('{"a": 1}\n' * 100_000 + '{"a": "cut of\n' + '{"a": 1}\n' * 100_000)
  blocks = blocks_of(path)
  assert blocks[-1].text and blocks[0].text
  assert sum(len(block.records) for block in blocks) <= record_blocks.BLOCK // 9 + 1
  assert compared(records_of(blocks)) == compared(manifest_records(path))


def test_an_array_and_a_table_are_parsed_where_they_are_read(tmp_path):
  rows = [{"a": number} for number in range(150)]
  (tmp_path / "m.json").write_text(json.dumps(rows, indent=1))
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "m.parquet")
  for name in ("m.json", "m.parquet"):
    blocks = blocks_of(tmp_path / name)
    assert [len(block.records) for block in blocks] == [64, 64, 22]
    assert compared(records_of(blocks)) == compared(manifest_records(tmp_path / name))


@pytest.mark.parametrize("content", [b"", b"hello", '{"a": 1}'.encode("utf-16-le"), b"\x1f\x8b {"])
def test_what_is_no_manifest_is_refused(content, tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_bytes(content)
  with pytest.raises(ManifestError):
    blocks_of(path)
