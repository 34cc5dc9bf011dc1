# SPDX-License-Identifier: Apache-2.0
"""Manifests that are damaged, wrapped, encoded otherwise or no manifests: one sentence a fault."""

import gzip
import json
import os
import socket

import pytest

from data_pipelines.manifest import json_text, llava
from data_pipelines.manifest.reader import manifest_records
from filax.testing import manifests

GOOD = manifests.question_record("<image>\nWhat?", video="a.mp4")
LINE = json.dumps(GOOD)


def read(tmp_path, content):
  path = tmp_path / "m.json"
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  report = llava.ManifestReport()
  samples = list(llava.read_manifest(path, "", report))
  for bad in report.bad:
    assert "\n" not in str(bad) and len(str(bad)) < 700
  return [int(s.origin.rsplit(":", 1)[1]) for s in samples], report.bad


@pytest.mark.parametrize(
  ("tail", "line"),
  [(LINE, 2), (f"[{LINE}]", 2), ("x", 2), ("]", 2), ("\n\n,", 4), ("\0", 2), ("{", 2)],
)
def test_what_follows_an_array_is_named(tail, line, tmp_path):
  lines, bad = read(tmp_path, f"[{LINE}]\n{tail}")
  assert lines == [1]
  assert [b.line for b in bad] == [line]
  assert "is behind the end of the array and is not read" in bad[0].reason


def test_space_behind_an_array_is_nothing(tmp_path):
  assert read(tmp_path, f" [{LINE},\n{LINE}] \r\n\t \n") == ([1, 2], [])


@pytest.mark.parametrize("indent", [0, 1, 2, 4, "\t"])
def test_a_wrapped_list_is_one_bad_record(indent, tmp_path):
  lines, bad = read(tmp_path, json.dumps({"version": 1, "data": [GOOD] * 3}, indent=indent))
  assert lines == []
  assert [b.line for b in bad] == [1]
  assert 'its key "data" holds 3 records: save that list alone' in bad[0].reason


@pytest.mark.parametrize("indent", [0, 1, 2, 4, "\t"])
@pytest.mark.parametrize("breakage", ["cut", "comma", "colon", "quote"])
def test_a_broken_value_of_many_lines_is_one_bad_record(indent, breakage, tmp_path):
  text = json.dumps({"data": [GOOD] * 3}, indent=indent)
  broken = {
    "cut": text[: len(text) * 2 // 3].rstrip(),
    "comma": text.replace('",', '"', 1),
    "colon": text.replace(":", "", 1),
    "quote": text.replace('"from"', '"from', 1),
  }[breakage]
  lines, bad = read(tmp_path, f"{broken}\n{LINE}\n")
  assert [b.line for b in bad] == [1]
  assert bad[0].reason.startswith("is not JSON: ")
  last = broken.count("\n") + 1
  assert bad[0].reason.endswith(f"so is what follows it, to line {last}")
  assert lines == [last + 1]


def test_a_list_of_records_a_line_inside_an_object(tmp_path):
  lines, bad = read(tmp_path, f'{{"data": [\n{LINE},\n{LINE},\n{LINE[:-30]}')
  assert (lines, [b.line for b in bad]) == ([], [1])


def test_records_over_several_lines_are_read(tmp_path):
  pretty = json.dumps(GOOD, indent=2)
  height = pretty.count("\n") + 1
  text = f"{pretty}\n{pretty}\n{LINE}\n\n{pretty}"
  assert read(tmp_path, text) == ([1, 1 + height, 1 + 2 * height, 3 + 2 * height], [])


def test_lines_with_commas_are_one_sentence(tmp_path):
  lines, bad = read(tmp_path, f"{LINE},\n{LINE},\n{LINE},\n{LINE}\n")
  assert (lines, [b.line for b in bad]) == ([4], [1])
  assert '"," follows it; so is what follows it, to line 3' in bad[0].reason


def test_a_file_of_damaged_lines_is_scanned_once(tmp_path, monkeypatch):
  scanned = []
  decode = json_text.ValueDecoder.decode_value

  def decode_value(self, text, start):
    scanned.append(len(text))
    return decode(self, text, start)

  monkeypatch.setattr(json_text.ValueDecoder, "decode_value", decode_value)
  line = '{"conversations": [{"from": "human", "value": no, "id": "a sentence that goes on"}]}'
  path = tmp_path / "m.jsonl"
  path.write_text('{"id": "e"}\n' + f"{line}\n" * 400)
  _, *bad = manifest_records(path)
  assert len(bad) == 400
  column = line.index("no,") + 1
  start = len('{"id": "e"}\n') + 6 * (len(line) + 1)
  place = f"line 8 column {column} (char {start + column - 1})"
  assert str(bad[6][1]) == f"is not JSON: Expecting value: {place}"
  assert sum(scanned) < 5 * path.stat().st_size


def test_damaged_records_that_follow_each_other_are_told_apart(tmp_path):
  text = "\n".join([LINE, LINE[:40], LINE[:-1], "{oops", LINE, LINE + LINE, "5", LINE])
  lines, bad = read(tmp_path, text)
  assert lines == [1, 5, 8]
  assert [b.line for b in bad] == [2, 3, 4, 6]  # A bare 5 could be the inside of a value.


@pytest.mark.parametrize("depth", [101, 900, 990, 1200, 100_000])
@pytest.mark.parametrize("key", ["video", "meta", "conversations"])
@pytest.mark.parametrize("brackets", ['{"a":', "["])
def test_a_deep_record_is_bad(depth, key, brackets, tmp_path):
  closing = {'{"a":': "}", "[": "]"}[brackets]
  deep = f'{{"{key}": ' + brackets * depth + "1" + closing * depth + "}"
  lines, bad = read(tmp_path, f"{LINE}\n{deep}\n{LINE}")
  assert lines == [1, 3]
  assert [b.line for b in bad] == [2]
  lines, bad = read(tmp_path, f"[{LINE},\n{deep}]")
  assert (lines, [b.line for b in bad]) == ([1], [2])


def test_a_record_of_usual_depth_is_good(tmp_path):
  nested = GOOD | {"meta": json.loads("[" * 90 + "]" * 90), "more": [[1]] * 500}
  assert read(tmp_path, json.dumps(nested)) == ([1], [])


@pytest.mark.parametrize(
  "record", ['{"video": "a.mp4", ' + LINE[1:], LINE.replace('"value"', '"from"', 1)]
)
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_a_key_that_stands_twice(record, form, tmp_path):
  lines, bad = read(tmp_path, form.replace("{}", record))
  assert lines == []
  assert len(bad) == 1
  assert "twice in one object" in bad[0].reason


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", '"1.5"', "1e400", "true", "[]"])
@pytest.mark.parametrize("key", ["start", "end"])
def test_times_that_are_no_numbers(number, key, tmp_path):
  lines, bad = read(tmp_path, f'{LINE[:-1]}, "{key}": {number}}}')
  assert (lines, len(bad)) == ([], 1)
  assert key in bad[0].reason


def test_too_many_digits(tmp_path):
  lines, bad = read(tmp_path, f'{LINE[:-1]}, "start": {"9" * 5000}}}\n{LINE}')
  assert (lines, [b.line for b in bad]) == ([2], [1])


@pytest.mark.parametrize("text", [f"\ufeff{LINE}\r\n\r\n{LINE}\r\n", f"\n\n{LINE}\n \n\t\n{LINE}"])
def test_marks_and_empty_lines(text, tmp_path):
  lines, bad = read(tmp_path, text)
  assert len(lines) == 2
  assert bad == []


def test_an_array_with_a_byte_order_mark(tmp_path):
  assert read(tmp_path, f"\ufeff[\r\n{LINE}\r\n]\r\n") == ([2], [])


@pytest.mark.parametrize("escape", ["\\ud800", "\\udfff x"])
def test_lone_surrogates_are_bad_text(escape, tmp_path):
  lines, bad = read(tmp_path, LINE.replace("What", escape))
  assert (lines, bad[0].reason) == ([], "has turn 1 that is not UTF-8")


NO_MANIFESTS = {
  "UTF-16": (LINE.encode("utf-16"), "is text in UTF-16. Save it as UTF-8"),
  "UTF-16-LE": (LINE.encode("utf-16-le"), "is text in UTF-16-LE. Save it as UTF-8"),
  "UTF-32": (LINE.encode("utf-32"), "is text in UTF-32"),
  "arrow": (b"ARROW1\0\0", "has the format arrow. Manifests are .json,"),
  "gzip": (gzip.compress(LINE.encode()), "has the format gzip. Manifests are .json,"),
  "zip": (b"PK\x03\x04" + bytes(9), "has the format zip"),
  "parquet": (b"PAR1" + bytes(9), "has the format parquet"),
  "empty": (b"", "is empty"),
  "blank": (b" \r\n\t", "is empty"),
  "mark": (b"\xef\xbb\xbf", "is empty"),
  "prose": (b"hello", "begins with neither"),
  "csv": (b"id,video\n1,a.mp4\n", "begins with neither"),
}


@pytest.mark.parametrize("kind", NO_MANIFESTS)
def test_files_that_are_no_manifests(kind, tmp_path):
  content, why = NO_MANIFESTS[kind]
  with pytest.raises(llava.ManifestError, match=why):
    read(tmp_path, content)


def test_names_that_are_no_files(tmp_path):
  fifo = tmp_path / "fifo\nm.json"
  os.mkfifo(fifo)
  with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(str(tmp_path / "socket"))
    named = {
      fifo: "not a regular file",
      "/dev/zero": "not a regular file",
      tmp_path / "a\0": "null (byte|character)",  # As Python calls it before and since 3.13.
      tmp_path / "socket": "not a regular file",
      tmp_path: "Is a directory",
      tmp_path / "none\n.json": "No such file",
    }
    for path, why in named.items():
      with pytest.raises(llava.ManifestError, match=why) as error:
        list(manifest_records(path))
      assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["no such\nfile.mp4", "a\u2028b.mp4", "a\x1b[31mb.mp4", "\ttab"])
def test_a_bad_record_is_one_line_of_a_list(path):
  bad = llava.BadRecord(f"{path}.json", 3, f"{path}: does not exist.")
  text = str(bad)
  assert text.isprintable()
  assert text.splitlines() == [text]
  assert ":3: " in text and "does not exist." in text


def test_a_long_reason_keeps_its_ends():
  text = str(llava.BadRecord("m.json", 3, "/videos/" + "x" * 4000 + ".mp4: does not exist."))
  assert text.startswith("m.json:3: /videos/xxx") and text.endswith("xxx.mp4: does not exist.")
  assert len(text) < 520
