# SPDX-License-Identifier: Apache-2.0
"""Tables of sources: every row or its error, with its line."""

import io
import random
import warnings

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from data_pipelines.manifest import table_text
from data_pipelines.manifest.clock_text import clock_seconds
from data_pipelines.manifest.literal_text import LONGEST_LITERAL, literal_list
from data_pipelines.manifest.report import ManifestError, RecordError
from data_pipelines.synthesis.sources import tables
from data_pipelines.synthesis.sources.track_report import BadRecordLog, TrackReport


def rows_of(path, text, delimiter=",", columns=("a", "b"), report=None):
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  rows = []
  for line, cells in tables.table_rows(str(path), columns, report or TrackReport(), delimiter):
    rows.append((line, "bad" if isinstance(cells, RecordError) else tuple(cells.values())))
  return rows


@pytest.fixture
def table(tmp_path):
  return tmp_path / "table.csv"


def test_a_cell_may_hold_quotes_and_lines(table):
  rows = rows_of(table, 'a,b\n1,"x ""y""\nz"\n2,w\n')
  assert rows == [(2, ("1", 'x "y"\nz')), (4, ("2", "w"))]


def test_doubled_quotes_between_tabs(table):
  rows = rows_of(table, 'a\tb\n1\t"[{""c"": ""d, e""}]"\n', "\t")
  assert rows == [(2, ("1", '[{"c": "d, e"}]'))]


def test_a_byte_order_mark_is_no_part_of_a_column(table):
  assert rows_of(table, "\ufeffa,b\r\n1,2\r\n") == [(2, ("1", "2"))]


def test_a_cell_over_pythons_limit_is_read(table):
  text = "x" * 200_000
  assert rows_of(table, f"a,b\n1,{text}\n") == [(2, ("1", text))]


def test_blank_and_short_rows_are_bad(table):
  rows = rows_of(table, "a,b\n1,2\n\n,\n3\n4,5,6\n7,8\n")
  assert rows == [(2, ("1", "2")), (3, "bad"), (4, "bad"), (5, "bad"), (6, "bad"), (7, ("7", "8"))]


def test_an_open_quote_spoils_its_own_line_only(table):
  rows = rows_of(table, 'a,b\n1,"open\n2,x\n3,y\n')
  assert rows == [(2, "bad"), (3, ("2", "x")), (4, ("3", "y"))]


def test_an_overlong_line_spoils_itself_only(table, monkeypatch):
  monkeypatch.setattr(table_text, "LONGEST_LINE", 100)
  rows = rows_of(table, "a,b\n1," + "x" * 1000 + "\n2,y\n")
  assert rows == [(2, "bad"), (3, ("2", "y"))]


def test_cp1252_is_read_and_named(table):
  report = TrackReport()
  rows = rows_of(table, b"a,b\n1,caf\xe9\n2,\xc3\xa9\n", report=report)
  assert rows == [(2, ("1", "café")), (3, ("2", "é"))]
  assert report.repairs == {"table.csv: a line that is not UTF-8 was read as cp1252": 1}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"a,c\n1,2\n", "has no column b"),
    (b"", "has no column a, b"),
    (b"\x1f\x8b\x08\x00", "is a gzip file"),
    ("a,b\n".encode("utf-16"), "UTF-16"),
  ],
)
def test_a_file_that_is_no_such_table_is_an_error(table, content, message):
  with pytest.raises(ManifestError, match=message):
    rows_of(table, content)


@pytest.mark.parametrize(
  ("text", "seconds"),
  [("0:00:16.300", 16.3), ("1:30:42", 5442), ("00:00:17.759", 17.759), ("02:03", 123)],
)
def test_clock_times(text, seconds):
  assert clock_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "12", "0:60:00", "0:00:61", "1:2:3:4", "-0:00:01", None, [1]])
def test_other_times_are_errors(text):
  with pytest.raises(RecordError, match="time"):
    clock_seconds(text)


def test_lists_with_either_quote_are_read():
  cell = """['a "news" anchor', "it's \\\\d", 'it\\'s']"""
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert literal_list(cell, "caption") == ['a "news" anchor', "it's \\d", "it's"]


@pytest.mark.parametrize(
  "cell",
  [
    "__import__('os').system('false')",
    "[open('/etc/passwd')]",
    "[" * 5000,
    "-" * 100_000 + "1",
    "1" + "+1" * 100_000,
    "9" * 10_000,
    "['\\d', x]",
    "{[]: 1}",
    "['\x00']",
    "['\ud800",
    "'" + "a" * (LONGEST_LITERAL + 1) + "'",
    "",
  ],
  ids=range(12),
)
def test_a_cell_that_is_no_list_is_an_error(cell):
  with pytest.raises(RecordError):
    literal_list(cell, "caption")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="[](){}'\"\\,:-+.0x1jeabn \n\x00é", max_size=60))
def test_any_cell_is_a_list_or_an_error(cell):
  try:
    assert isinstance(literal_list(cell, "caption"), list)
  except RecordError as error:
    assert str(error)


def test_any_bytes_are_rows_or_errors(tmp_path):
  path = tmp_path / "table.csv"
  for seed in range(100):
    draw = random.Random(seed)
    body = bytes(draw.choices(b"a,\"\n\r\t\x00\xe9\xc3\xa9 '", k=200))
    count = len(rows_of(path, b"a,b\n" + body))
    assert count <= body.count(b"\n") + body.count(b"\r") + 1


def test_a_log_counts_all_and_keeps_a_thousand():
  file = io.StringIO()
  report = TrackReport(bad=BadRecordLog(file))
  for line in range(1500):
    report.leave_out("x.csv", line, f'has "{line}" of {line} cells')
  assert len(report.bad) == 1000
  assert report.bad.total == 1500
  assert report.bad.reasons == {"has … of … cells": 1500}
  assert file.getvalue().count("\n") == 1500
