# SPDX-License-Identifier: Apache-2.0
"""Manifests in other formats: the same samples, and what was lost."""

import dataclasses
import datetime
import gc
import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.manifest import llava
from data_pipelines.media.open import open_file, open_packed
from data_pipelines.tools.reformat import (
  FOLDERS,
  KEYS,
  PLACE,
  SCENE_BYTES,
  SCENES,
  reformat_manifest,
)
from filax import progress
from filax.cli import data
from filax.testing import clips, manifests

QUESTION = "<image>\nWhat?"


@pytest.fixture
def folder(tmp_path):
  clips.write_video(tmp_path / "videos" / "a.mp4", 10)
  clips.write_picture(tmp_path / "p.png")
  scenes = [dict(media="videos/a.mp4", t1=1), dict(media="p.png", kind="still", t1=0.5, at=0.5)]
  records = [
    manifests.question_record(QUESTION, id="1", kind="bars", video="videos/a.mp4", source="x"),
    manifests.question_record(QUESTION, video="videos/a.mp4", start=0.5, end=0.75),
    manifests.question_record("<image> and <image>?", image=["p.png", "p.png"], meta={"n": [1]}),
    manifests.question_record(QUESTION, scenes=scenes),
    manifests.question_record("<|im_end|> ü?", "\u2028\n"),
    manifests.question_record("Why?", "Ü."),
  ]
  manifests.write_manifest(tmp_path / "in.json", records)
  return tmp_path


def samples(path):
  report = llava.ManifestReport()
  read = list(llava.read_manifest(path, "", report))
  assert [bad.reason for bad in report.bad if "empty answer" not in bad.reason] == []
  return read


def without_names(sample):
  return dataclasses.replace(
    sample, origin="", id="" if sample.id == sample.origin else sample.id, media=()
  )


def contents(sample):
  """The media of a sample, by what is in them."""
  timelines = []
  for timeline in sample.media:
    for scene in timeline:
      packed = "#" in scene.media
      with open_packed(scene.media) if packed else open_file(scene.media) as file:
        content = file.read()
      timelines.append(dataclasses.replace(scene, media=str(hash(content))))
  return timelines


def assert_same(one, other):
  before = samples(one)
  after = samples(other)
  assert list(map(without_names, after)) == list(map(without_names, before))
  assert list(map(contents, after)) == list(map(contents, before))


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("out.jsonl", dict(shape="messages")),
    ("out.jsonl", {}),
    ("out.parquet", {}),
    ("out.parquet", dict(content=True)),
    ("out.parquet", dict(shape="messages")),
    ("out.tar", {}),
    ("out.tar", dict(shape="messages")),
  ],
)
def test_there_and_back(name, options, folder):
  result = reformat_manifest(folder / "in.json", folder / name, **options)
  assert result.records == 5 and [bad.line for bad in result.report.bad] == [6]
  assert_same(folder / "in.json", folder / name)
  back = folder / "back.json"
  again = reformat_manifest(folder / name, back, shape="llava")
  assert (again.records, again.report.bad, again.lost) == (5, [], {})
  assert_same(folder / "in.json", back)
  first, _, third = json.loads(back.read_text())[:3]
  assert first["source"] == "x" and third["meta"] == {"n": [1]}


def test_another_folder_names_the_same_media(folder):
  (folder / "sub").mkdir()
  reformat_manifest(folder / "in.json", folder / "sub" / "out.json")
  assert_same(folder / "in.json", folder / "sub" / "out.json")


def test_timelines_beside_bytes_are_named_from_the_new_folder(folder, monkeypatch):
  monkeypatch.chdir(folder.parent)
  (folder / "sub").mkdir()
  out = folder / "sub" / "out.parquet"
  result = reformat_manifest(f"{folder.name}/in.json", out, content=True)
  assert result.lost == {SCENE_BYTES: 1}
  assert_same(folder / "in.json", out)


def test_a_sentence_that_a_table_cannot_hold(folder):
  records = [manifests.question_record("Is <image> a tag?"), manifests.question_record("Why?")]
  manifests.write_manifest(folder / "m.json", records)
  assert reformat_manifest(folder / "m.json", folder / "l.jsonl").records == 2
  result = reformat_manifest(folder / "m.json", folder / "t.parquet")
  assert result.records == len(samples(folder / "t.parquet")) == 1
  assert "read again, it has <image> but no medium" in result.report.bad[0].reason


def test_names_below_a_root_stay(folder):
  reformat_manifest(folder / "in.json", folder / "out.jsonl", root=folder)
  assert json.loads((folder / "out.jsonl").read_text().splitlines()[0])["video"] == "videos/a.mp4"


def test_a_tar_holds_a_medium_once(folder):
  reformat_manifest(folder / "in.json", folder / "out.tar")
  names = {
    scene.media for sample in samples(folder / "out.tar") for t in sample.media for scene in t
  }
  assert len(names) == 2


def test_what_is_lost_is_counted(folder):
  record = dict(
    messages=[
      dict(role="user", content="What <video> now?"),
      dict(role="assistant", content="Bars."),
    ],
    videos=["videos/a.mp4"],
  )
  manifests.write_manifest(folder / "m.json", [record])
  assert reformat_manifest(folder / "m.json", folder / "l.json", shape="llava").lost == {PLACE: 1}
  assert reformat_manifest(folder / "in.json", folder / "m2.json", shape="messages").lost == {
    SCENES: 1
  }


@pytest.mark.parametrize(("name", "content"), [("f.parquet", True), ("f.tar", False)])
def test_a_folder_of_pictures_stays_named_beside_packed_media(name, content, folder):
  for number in range(3):
    clips.write_picture(folder / "pictures" / f"{number}.png")
  records = [manifests.question_record(QUESTION, video=video) for video in ("pictures", "p.png")]
  manifests.write_manifest(folder / "m.json", records)
  result = reformat_manifest(folder / "m.json", folder / name, content=content)
  assert (result.records, result.lost) == (2, {FOLDERS: 1})
  pictures, packed = samples(folder / name)
  assert pictures.media[0][0].media == str(folder / "pictures") and "#" in packed.media[0][0].media


def test_tags_that_would_become_media_are_refused(folder):
  parts = [dict(type="text", text="<image> "), dict(type="image", image="p.png")]
  record = dict(messages=[dict(role="user", content=parts), dict(role="assistant", content="A")])
  good = manifests.question_record("Why?")
  manifests.write_manifest(folder / "m.json", [record, good])
  result = reformat_manifest(folder / "m.json", folder / "l.json", shape="llava")
  again = samples(folder / "l.json")
  assert len(again) == result.records
  assert result.report.bad or result.lost


def test_a_missing_medium_costs_its_record_in_a_tar(folder):
  records = [
    manifests.question_record(QUESTION, video="away.mp4"),
    manifests.question_record(QUESTION, video="videos/a.mp4"),
  ]
  manifests.write_manifest(folder / "m.json", records)
  result = reformat_manifest(folder / "m.json", folder / "m.tar")
  assert result.records == 1 and "away.mp4: does not exist" in str(result.report.bad[0])
  assert len(samples(folder / "m.tar")) == 1


@pytest.mark.parametrize(("out", "content"), [("out.tar", False), ("out.parquet", True)])
def test_a_private_key_that_a_manifest_names_is_no_medium(out, content, folder):
  """What is written may be published."""
  (folder / "id_rsa").write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
  records = [
    manifests.question_record(QUESTION, video=str(folder / "id_rsa")),
    manifests.question_record(QUESTION, video="videos/a.mp4"),
  ]
  manifests.write_manifest(folder / "others.json", records)
  result = reformat_manifest(folder / "others.json", folder / out, content=content)
  assert result.records == 1 and "is not a picture or a video" in str(result.report.bad[0])
  assert b"PRIVATE KEY" not in (folder / out).read_bytes()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "tar"])
def test_a_key_that_is_not_utf8_costs_its_record_alone(suffix, tmp_path):
  good = json.dumps(manifests.question_record("Why?", "So.", source="x")).encode()
  lines = [good, good.replace(b'"x"', b'"caf\xe9"'), good]
  (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
  result = reformat_manifest(tmp_path / "in.jsonl", tmp_path / f"out.{suffix}")
  (bad,) = result.report.bad
  assert (bad.line, bad.reason) == (2, 'has "source" that is not UTF-8')
  assert len(samples(tmp_path / f"out.{suffix}")) == result.records == 2


def test_a_key_that_is_no_json_is_counted(tmp_path):
  rows = dict(query=["Q"], response=["A"], day=[datetime.date(2020, 1, 1)])
  pq.write_table(pa.table(rows), tmp_path / "in.parquet")
  result = reformat_manifest(tmp_path / "in.parquet", tmp_path / "out.jsonl")
  assert result.lost[KEYS] == 1


def test_options_become_a_part_of_the_question(tmp_path):
  record = dict(question="Which?", options=["red", "blue"], answer="blue")
  (tmp_path / "in.jsonl").write_text(json.dumps(record))
  reformat_manifest(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
  written = json.loads((tmp_path / "out.jsonl").read_text())
  assert written.keys() == {"conversations"}
  assert [turn.parts for turn in samples(tmp_path / "out.jsonl")[0].turns] == [
    turn.parts for turn in samples(tmp_path / "in.jsonl")[0].turns
  ]


def test_nothing_is_overwritten(folder):
  out = folder / "out.jsonl"
  out.write_text("mine")
  with pytest.raises(ValueError, match=r"out\.jsonl exists.*--force"):
    reformat_manifest(folder / "in.json", out)
  with pytest.raises(ValueError, match="is the manifest that is read"):
    reformat_manifest(folder / "in.json", folder / "in.json", force=True)
  manifests.write_manifest(folder / "bad.json", [{}])
  with pytest.raises(ValueError, match="has no good record"):
    reformat_manifest(folder / "bad.json", out, force=True)
  assert out.read_text() == "mine"
  assert reformat_manifest(folder / "in.json", out, force=True).records == 5


def test_a_parquet_file_of_no_record_leaves_nothing_behind(folder, monkeypatch):
  manifests.write_manifest(folder / "bad.json", [{}])
  late = []
  monkeypatch.setattr(sys, "unraisablehook", late.append)
  with pytest.raises(ValueError, match="has no good record"):
    reformat_manifest(folder / "bad.json", folder / "out.parquet")
  gc.collect()
  assert late == [] and not (folder / "out.parquet").exists()


@pytest.mark.parametrize("out", ["x.csv", "x", "x.tar.gz"])
def test_an_unknown_suffix(out, folder):
  with pytest.raises(ValueError, match="which decide what is written"):
    reformat_manifest(folder / "in.json", folder / out)


def test_the_command(folder, capsys):
  argv = ["reformat", str(folder / "in.json"), str(folder / "out.json"), "--shape", "messages"]
  assert data.main(argv) == 1  # One record is bad.
  printed = capsys.readouterr().out
  assert "in.json:6: has an empty answer" in printed
  assert "Wrote 5 records" in printed and "Lost in 1 records: timelines of scenes" in printed


def test_progress_is_shown(folder, monkeypatch):
  lines = io.StringIO()
  monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
  reformat_manifest(folder / "in.json", folder / "shown.jsonl", progress=lines)
  assert lines.getvalue().splitlines()[-1].startswith("records 6, ")
