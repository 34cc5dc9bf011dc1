# SPDX-License-Identifier: Apache-2.0
"""Parquet files as manifests and as homes of media."""

import os
import pathlib
import pickle
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.manifest import llava
from data_pipelines.media import kept_tables, parquet_cells
from data_pipelines.media.open import identity, read_bytes
from data_pipelines.media.pictures import read_image
from data_pipelines.media.probe import probe
from data_pipelines.packing.corpus import read_corpus
from filax.testing import clips, corpora

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Bars."}]


def write(path, video=None, kind=FILE, column="video", rows=1, turns=TURNS, **options):
  columns = {"conversations": [turns] * rows}
  if video is not None:
    columns[column] = pa.array(video, kind)
  pq.write_table(pa.table(columns), path, **options)
  return str(path)


def read(path, root=""):
  report = llava.ManifestReport()
  return list(llava.read_manifest(path, root, report)), [bad.reason for bad in report.bad]


def media(path):
  samples, bad = read(path)
  assert bad == []
  return [[timeline[0].media for timeline in sample.media] for sample in samples]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
  path = tmp_path_factory.mktemp("picture") / "p.png"
  clips.write_picture(path, 7)
  return path.read_bytes()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  path = tmp_path_factory.mktemp("clip") / "a.mp4"
  clips.write_video(path, 10)
  return path.read_bytes()


@pytest.mark.parametrize("statistics", [True, False])
def test_bytes_or_paths(statistics, video, tmp_path):
  cells = [dict(bytes=video, path="a.mp4"), dict(bytes=None, path="b.mp4")]
  path = write(tmp_path / "x.parquet", cells, rows=2, write_statistics=statistics)
  assert media(path) == [[f"{path}#0/video"], [f"{tmp_path}/b.mp4"]]
  assert read_bytes(f"{path}#0/video") == video
  assert probe(f"{path}#0/video").frames == 10


@pytest.mark.parametrize(
  "kind",
  [
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.binary()),
  ],
)
def test_a_column_of_bytes(kind, video, tmp_path):
  path = write(tmp_path / "x.parquet", [video], kind)
  assert media(path) == [[f"{path}#0/video"]]
  assert probe(f"{path}#0/video").frames == 10


def test_a_column_of_paths(tmp_path):
  path = write(tmp_path / "x.parquet", ["a.mp4"], pa.string())
  assert media(path) == [[f"{tmp_path}/a.mp4"]]


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("kind", [pa.binary(), FILE])
@pytest.mark.parametrize("length", [-1, 2])
def test_lists_of_pictures(kind, length, statistics, picture, tmp_path):
  cell = dict(bytes=picture, path=None) if kind == FILE else picture
  turns = [dict(TURNS[0], value="<image><image>"), TURNS[1]]
  path = write(
    tmp_path / "x.parquet",
    *([[cell, cell]], pa.list_(kind, length), "image"),
    turns=turns,
    write_statistics=statistics,
  )
  names = [f"{path}#0/image/0", f"{path}#0/image/1"]
  assert media(path) == [names]
  assert clips.read_numbers([read_image(names[1])]) == [7]


def test_a_root_elsewhere_leaves_bytes_where_they_are(video, tmp_path):
  path = write(tmp_path / "x.parquet", [dict(bytes=video, path=None)])
  samples, _ = read(path, "/elsewhere")
  assert samples[0].media[0][0].media == f"{path}#0/video"


def test_messages_of_parts_with_common_fields(picture, tmp_path):
  parts = [dict(type="image", text=None), dict(type="text", text="Who?")]
  answer = [dict(type="text", text="He.")]
  messages = [dict(role="user", content=parts), dict(role="assistant", content=answer)]
  table = pa.table(
    {"messages": [messages], "images": pa.array([[dict(bytes=picture, path=None)]], pa.list_(FILE))}
  )
  pq.write_table(table, tmp_path / "x.parquet")
  (sample,), bad = read(tmp_path / "x.parquet")
  assert bad == [] and sample.turns[0].parts == (0, "Who?")


PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", FILE)])
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(PART))]))


def asked(medium):
  parts = [dict(type="image", image=medium), dict(type="text", text="Who?")]
  answer = [dict(type="text", text="He.")]
  return [dict(role="user", content=parts), dict(role="assistant", content=answer)]


@pytest.mark.parametrize("statistics", [True, False])
def test_bytes_inside_messages_are_named(statistics, tmp_path):
  cells = [asked(dict(bytes=None, path="a.png")), asked(dict(bytes=b"x", path="b.png"))]
  table = pa.table({"messages": pa.array(cells, MESSAGES)})
  pq.write_table(table, tmp_path / "x.parquet", write_statistics=statistics, row_group_size=1)
  samples, bad = read(tmp_path / "x.parquet")
  assert [sample.media[0][0].media for sample in samples] == [f"{tmp_path}/a.png"]
  assert len(bad) == 1 and "has bytes in messages, where they are not read; write" in bad[0]


@pytest.mark.parametrize("column", ["question", "answer", "options"])
def test_texts_as_bytes_are_no_names_of_cells(column, tmp_path):
  columns = dict(question=["Q"], answer=["A"], options=[["a", "b"]], id=[b"1"], video=["a.mp4"])
  value = columns[column][0]
  columns[column] = [[b"a", b"b"]] if isinstance(value, list) else [value.encode()]
  pq.write_table(pa.table(columns), tmp_path / "x.parquet")
  samples, (bad,) = read(tmp_path / "x.parquet")
  assert samples == [] and f"has bytes in {column}, where they are not read" in bad


FILMED = {
  "mp4": b"x",
  "sample": {"mp4": b"x", "name": "a"},
  "contents": [{"content": b"x"}],
  "frames": [[b"x", b"x"]],
}


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("column", FILMED)
def test_bytes_in_columns_that_are_not_read_are_named(column, statistics, tmp_path):
  kind = pa.array([FILMED[column]]).type
  table = pa.table(
    {
      "question": ["Q"] * 3,
      "answer": ["A"] * 3,
      "video": [None, "a.mp4", None],
      column: pa.array([FILMED[column], FILMED[column], None], kind),
    }
  )
  path = tmp_path / "x.parquet"
  pq.write_table(table, path, write_statistics=statistics, row_group_size=2)
  (shown, text), bad = read(path)
  assert shown.media[0][0].media == f"{tmp_path}/a.mp4" and text.media == ()
  assert len(bad) == 1 and f'has its media in "{column}": ' in bad[0]


@pytest.mark.parametrize("value", [{"data": b"x"}, [[b"x"]]])
def test_bytes_of_another_form_are_no_video(value, tmp_path):
  columns = dict(question=["Q"], answer=["A"], video=pa.array([value]))
  pq.write_table(pa.table(columns), tmp_path / "x.parquet")
  samples, (bad,) = read(tmp_path / "x.parquet")
  assert samples == [] and "has bytes in video, where they are not read; write" in bad


def test_null_rows_and_missing_media(tmp_path):
  path = write(tmp_path / "x.parquet", [None], rows=1)
  assert read(path) == ([], ['has <image> but no medium: "video" is null'])
  path = write(tmp_path / "y.parquet")
  assert read(path) == ([], ["has <image> but no medium: it has no video, image or scenes"])
  path = write(tmp_path / "z.parquet", ["a.mp4"], pa.string(), turns=None)
  assert "has conversations null" in read(path)[1][0]


def rows_of(path, count, group, video):
  cells = [dict(bytes=video + bytes([n % 256]), path=None) for n in range(count)]
  return write(path, cells, rows=count, row_group_size=group)


def test_the_table_reads_rows_of_many_groups(video, tmp_path):
  path = rows_of(tmp_path / "x.parquet", 30, 4, b"x")
  corpus = read_corpus(
    corpora.data_config(tmp_path, train=((path, "all"),)), 0, str(tmp_path / "cache")
  )
  assert list(corpus.samples) == read(path)[0]
  again = pickle.loads(pickle.dumps(corpus.samples))
  assert again[29].media[0][0].media == f"{path}#29/video"
  assert read_bytes(corpus.media[17]) == b"x\x11"


def test_a_row_group_is_read_once_for_rows_that_follow(tmp_path, monkeypatch):
  path = rows_of(tmp_path / "x.parquet", 40, 20, b"x")
  groups = []
  original = parquet_cells.ParquetRows.read_batches
  monkeypatch.setattr(
    parquet_cells.ParquetRows,
    "read_batches",
    lambda rows, group, leaves: groups.append(group) or original(rows, group, leaves),
  )
  for row in range(40):
    read_bytes(f"{path}#{row}/video")
  assert groups == [0, 1]


def test_large_row_groups_are_mapped(tmp_path, monkeypatch):
  monkeypatch.setattr(kept_tables, "LARGEST_HELD", 1000)
  monkeypatch.setattr(parquet_cells, "_BATCH", 500)
  path = rows_of(tmp_path / "x.parquet", 40, 40, bytes(100))
  assert read_bytes(f"{path}#39/video") == bytes(100) + b"\x27"
  assert read_bytes(f"{path}#3/video") == bytes(100) + b"\x03"
  assert len(read(path)[0]) == 40


def test_threads_share_a_file(tmp_path):
  path = rows_of(tmp_path / "x.parquet", 64, 4, b"x")
  wrong = []

  def check(first):
    for row in range(first, 64, 4):
      if read_bytes(f"{path}#{row}/video") != b"x" + bytes([row]):
        wrong.append(row)

  threads = [threading.Thread(target=check, args=(first,)) for first in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []


NAMES = {
  "#9/video": "has 1 rows, and so no row 9",
  "#0/image": "no such column of bytes",
  "#0/conversations": "no such column of bytes",
  "#0/video/3": "has no bytes",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_that_is_not_there(name, tmp_path):
  path = write(tmp_path / "x.parquet", [dict(bytes=None, path="a.mp4")])
  error = probe(path + name).error
  if name == "#0/video/3":
    assert error.startswith(path)
  else:
    assert NAMES[name] in error


def test_a_changed_file_is_another_medium(video, tmp_path):
  path = write(tmp_path / "x.parquet", [video], pa.binary())
  before = identity(f"{path}#0/video")
  write(tmp_path / "x.parquet", [b"other"], pa.binary())
  assert identity(f"{path}#0/video") != before
  assert read_bytes(f"{path}#0/video") == b"other"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"hello" * 50])
def test_files_that_are_no_parquet(content, tmp_path):
  path = tmp_path / "x.parquet"
  path.write_bytes(content)
  with pytest.raises(llava.ManifestError, match=r"x\.parquet is a damaged or unreadable Parquet"):
    read(path)
  assert "x.parquet#0/video: " in probe(f"{path}#0/video").error


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_a_damaged_row_group_is_named(cut, tmp_path):
  path = pathlib.Path(write(tmp_path / "x.parquet", ["a.mp4"] * 50, pa.string(), rows=50))
  content = bytearray(path.read_bytes())
  place = int(len(content) * cut * 0.3) + 4
  content[place : place + 20] = os.urandom(20)
  path.write_bytes(content)
  try:
    samples, bad = read(path)
  except llava.ManifestError:
    return
  assert len(samples) + len(bad) == 50
