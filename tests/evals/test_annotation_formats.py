# SPDX-License-Identifier: Apache-2.0
"""Annotation files as spreadsheets, exports and broken downloads leave them."""

import csv
import io
import json

from hypothesis import given, strategies
import pytest

from data_pipelines.manifest.report import RecordError
from filax.evals import annotation_formats, annotation_values
from filax.evals.kit import BadAnnotation

CELLS = strategies.text(strategies.characters(codec="utf-8", exclude_characters="\x00"), max_size=9)
FIELDS = ("video", "question")


@given(
  rows=strategies.lists(strategies.tuples(CELLS, CELLS), min_size=1, max_size=5),
  mark=strategies.sampled_from(["", "\ufeff"]),
  line_end=strategies.sampled_from(["\n", "\r\n"]),
)
def test_any_text_comes_back_from_csv(tmp_path_factory, rows, mark, line_end):
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL)
  writer.writerows([FIELDS, *rows])
  path = tmp_path_factory.mktemp("csv") / "rows.csv"
  path.write_bytes((mark + text.getvalue()).encode())
  read = annotation_formats.csv_rows(str(path), FIELDS)
  assert [(row["video"], row["question"]) for row in read] == rows


@given(
  rows=strategies.lists(strategies.dictionaries(CELLS, CELLS, max_size=3), max_size=5),
  mark=strategies.sampled_from(["", "\ufeff"]),
  line_end=strategies.sampled_from(["\n", "\r\n", "\n\n"]),
  ascii=strategies.booleans(),
)
def test_any_object_comes_back_from_json_lines(tmp_path_factory, rows, mark, line_end, ascii):
  lines = [json.dumps(row, ensure_ascii=ascii) for row in rows]
  path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
  path.write_bytes((mark + line_end.join(lines)).encode())
  assert annotation_formats.json_line_rows(str(path), ()) == rows


@pytest.mark.parametrize(
  "content", [b"\xff\xfe[\x00", b'{"a": ', b"[1]", b"<html>", b"", b"[" * 100_000]
)
def test_what_is_no_object_is_refused(tmp_path, content):
  path = tmp_path / "map.json"
  path.write_bytes(content)
  with pytest.raises(BadAnnotation, match=r"map\.json"):
    annotation_formats.json_object(str(path))


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"a": 1}\n{"a"', b'{"a": 1}\n7'])
def test_a_bad_line_is_named(tmp_path, content):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(content)
  with pytest.raises(BadAnnotation, match=r"rows\.jsonl"):
    annotation_formats.json_line_rows(str(path), ())


def test_an_empty_file_has_no_records(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_bytes(b"")
  assert annotation_formats.csv_rows(str(path), FIELDS) == []


@pytest.mark.parametrize("value", [2, 2.0, "2", " 2 ", "2.0"])
def test_numbers_of_options_may_be_texts(value):
  assert annotation_values.option_number(value, "answer", 5) == 2


@pytest.mark.parametrize(
  "value", [5, -1, 1.5, "x", "", None, float("nan"), "nan", "inf", True, [2], 10**400]
)
def test_what_is_no_option_is_named(value):
  with pytest.raises(RecordError, match="has the answer"):
    annotation_values.option_number(value, "answer", 5)


@pytest.mark.parametrize("value, text", [(7, "7"), (7.0, "7"), (" 7 ", "7"), ("a b", "a b")])
def test_ids_may_be_numbers(value, text):
  assert annotation_values.id_field(dict(video=value), "video") == text


@pytest.mark.parametrize("value", [None, "", " ", True, 1.5, float("nan"), ["a"]])
def test_what_is_no_id_is_named(value):
  with pytest.raises(RecordError, match="has the video"):
    annotation_values.id_field(dict(video=value), "video")


@pytest.mark.parametrize(
  "value, empty", [(None, True), ("", True), (float("nan"), True), (0, False)]
)
def test_empty_values(value, empty):
  assert annotation_values.is_empty(value) is empty


def test_labels_are_removed_together():
  labelled = ("A. a", "B. A. b")
  assert annotation_values.without_labels(labelled, "", ". ") == ("a", "A. b")
  assert annotation_values.without_labels(("A. a", "b"), "", ". ") == ("A. a", "b")
