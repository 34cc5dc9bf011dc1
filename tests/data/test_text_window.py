# SPDX-License-Identifier: Apache-2.0
"""A manifest is read part by part: the parts must not show in what is read."""

import json
import random

import pytest

from data_pipelines.manifest import text_window
from data_pipelines.manifest.reader import located_records, record_at
from data_pipelines.manifest.report import ManifestError, RecordError

RECORDS = [
  {"id": "a", "conversations": [{"from": "human", "value": "Wörter \u2028 und 😀"}]},
  {"id": 12, "list": [1.5, -3e10, True, None], "text": 'a "quoted" \\ text\n'},
  {"id": "deep", "x": [[[[{"y": []}]]]]},
  17,
  "a text",
]


def array(records):
  return json.dumps(records, indent=1, ensure_ascii=False)


def lines(records):
  return "\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n"


def read(path, block, monkeypatch):
  monkeypatch.setattr(text_window, "BLOCK", block)
  try:
    rows = []
    for line, record, start, stop, _ in located_records(path):
      is_error = isinstance(record, RecordError)
      rows.append((line, str(record) if is_error else record, start, stop, is_error))
    return rows
  except ManifestError as error:
    return str(error)


@pytest.mark.parametrize("write", [array, lines])
@pytest.mark.parametrize("block", [17, 40, 100])
def test_parts_of_any_size_give_the_same_records(write, block, tmp_path, monkeypatch):
  path = tmp_path / "m.json"
  path.write_text(write(RECORDS * 5), "utf-8")
  assert read(path, block, monkeypatch) == read(path, 1 << 20, monkeypatch)


@pytest.mark.parametrize("seed", range(60))
def test_parts_of_any_size_give_the_same_errors(seed, tmp_path, monkeypatch):
  rng = random.Random(seed)
  data = bytearray((array if seed % 2 else lines)(RECORDS * 4).encode())
  for _ in range(rng.randint(1, 4)):
    place = rng.randrange(len(data))
    if rng.random() < 0.5:
      del data[place : place + rng.randint(1, 40)]
    else:
      data[place:place] = rng.choice([b"\xff", b'"', b"{", b"]", b"\n", b",\n", b"12", b"\\u12"])
  path = tmp_path / "m.json"
  path.write_bytes(data)
  expected = read(path, 1 << 20, monkeypatch)
  for block in (16, 64, 301):
    assert read(path, block, monkeypatch) == expected, f"with parts of {block} bytes"


@pytest.mark.parametrize("write", [array, lines])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_record_is_found_again_at_its_place(write, mark, tmp_path):
  path = tmp_path / "m.json"
  path.write_bytes(mark + write(RECORDS[:3]).encode())
  with open(path, "rb") as file:
    again = []
    for _, _, start, stop, _ in located_records(path):
      again.append(record_at(str(path), file, start, stop))
  assert again == RECORDS[:3]


WHOLE_FILE = {"annotations": RECORDS * 40}
LONG = {
  "on one line": json.dumps(WHOLE_FILE),
  "on many lines": json.dumps(WHOLE_FILE, indent=1),
  "cut": json.dumps(WHOLE_FILE, indent=1)[:-9],
  "broken at its start": json.dumps(WHOLE_FILE, indent=1).replace(":", "", 1),
  "in an array": json.dumps([RECORDS[0], WHOLE_FILE]),
}


@pytest.mark.parametrize("name", LONG)
def test_a_whole_file_as_one_record_is_not_read_into_memory(name, tmp_path, monkeypatch):
  path = tmp_path / "m.json"
  path.write_text(LONG[name])
  monkeypatch.setattr(text_window, "LONGEST", 2000)
  reason = read(path, 100, monkeypatch)
  assert "has a record of more than" in reason and reason.endswith("or stand on a line each.")
  path.write_text(lines(RECORDS * 40))
  assert len(read(path, 100, monkeypatch)) == 200, "short records"


def test_a_large_manifest_takes_little_memory(tmp_path, monkeypatch):
  path = tmp_path / "m.jsonl"
  path.write_text(lines(RECORDS[:2] * 2000))
  monkeypatch.setattr(text_window, "BLOCK", 4096)
  longest = 0
  extend = text_window.TextWindow.extend

  def watched(window):
    nonlocal longest
    more = extend(window)
    longest = max(longest, len(window.text))
    return more

  monkeypatch.setattr(text_window.TextWindow, "extend", watched)
  assert sum(1 for _ in located_records(path)) == 4000
  assert longest < 5 * 4096, f"the window grew to {longest} characters"
