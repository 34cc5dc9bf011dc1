# SPDX-License-Identifier: Apache-2.0
"""A built data set holds what its manifest held, and is a manifest itself."""

from concurrent.futures import ThreadPoolExecutor
import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.manifest import llava
from data_pipelines.media import array_record
from data_pipelines.media import frames as video
from data_pipelines.media.cache import FrameCache
from data_pipelines.tools import build_array_record, transcode
from filax.testing import clips, manifests

SIZE = 32


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp("source")
  clips.write_video(folder / "videos" / "a.mp4", 30)
  clips.write_picture(folder / "b #1.png", 5)
  clips.write_picture_folder(folder / "frames", 6)
  clips.write_truncated(folder / "bad.mp4")
  rows = [
    manifests.question_record(
      "<image>\nFirst?", "One.", id="x", video="videos/a.mp4", start=1, more={"k": 1}
    ),
    manifests.question_record("<image> <image>", "Two.", image=["b #1.png", "b #1.png"]),
    manifests.question_record("No media?", "Three ümläut."),
    {"id": "broken"},
    manifests.question_record(
      "<image>", "Four.", scenes=[{"media": "videos/a.mp4", "t1": 1}, {"media": "frames", "t1": 2}]
    ),
    manifests.question_record("<image>", "Five.", video="bad.mp4"),
    manifests.question_record("<image>", "Six.", video="none.mp4"),
  ]
  return manifests.write_manifest(folder / "m.json", rows)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
  out = tmp_path_factory.mktemp("built") / "out"
  return out, build_array_record.build_data_set(source, out)


def test_what_was_left_out_is_listed(source, built):
  _, report = built
  assert (report.samples, report.media) == (4, 3)
  assert [b.line for b in report.report.bad] == [5, 7, 8]
  for bad, why in zip(
    report.report.bad, ("has no conversations", "is truncated", "does not exist"), strict=True
  ):
    assert why in bad.reason


@pytest.mark.parametrize("name", [build_array_record.MANIFEST, build_array_record.SAMPLES])
def test_the_data_set_is_a_manifest(name, source, built):
  out, _ = built
  report = llava.ManifestReport()
  ours = list(llava.read_manifest(out / name, "", report))
  theirs = [s for s in llava.read_manifest(source) if s.origin.rsplit(":")[-1] in "2346"]
  assert not report.bad and len(ours) == len(theirs) == 4
  for a, b in zip(ours, theirs, strict=True):
    assert (a.turns, a.kind) == (b.turns, b.kind)
    for mine, original in zip(a.media, b.media, strict=True):
      for packed, plain in zip(mine, original, strict=True):
        assert (packed.kind, packed.t0, packed.t1, packed.at) == (
          plain.kind,
          plain.t0,
          plain.t1,
          plain.at,
        )
        assert ".array_record#" in packed.media
        check_same(packed, plain)


def check_same(packed, plain):
  if packed.kind == "image":
    np.testing.assert_array_equal(video.read_image(packed.media), video.read_image(plain.media))
    return
  times = np.arange(12) / 4
  ours, seen = video.read_frames(packed.media, times, SIZE)
  theirs, expected = video.read_frames(plain.media, times, SIZE)
  assert clips.read_numbers(ours) == clips.read_numbers(theirs)
  np.testing.assert_allclose(seen, expected, atol=1e-5)
  mine, original = video.probe(packed.media), video.probe(plain.media)
  assert (mine.frames, mine.width, mine.error) == (original.frames, original.width, "")


def test_tfds_reads_the_data_set(built):
  out, _ = built
  data = tfds.builder_from_directory(out / "media" / "1.0.0").as_data_source("train")
  keys = [data[i]["key"].decode() for i in range(len(data))]
  assert keys == ["videos/a.mp4", "b #1.png", "frames"]


def test_the_cache_takes_packed_media(built, tmp_path):
  out, _ = built
  name = f"{out / build_array_record.MEDIA}#videos/a.mp4"
  cache = FrameCache(tmp_path / "cache", SIZE)
  for _ in range(2):
    ours = cache.read_frames(name, [0.3, 2.0], SIZE)
    np.testing.assert_array_equal(ours[0], video.read_frames(name, [0.3, 2.0], SIZE)[0])
  assert len(list(cache.folder.iterdir())) == 2


def test_what_a_packed_name_can_get_wrong(built, tmp_path):
  out, _ = built
  shard = array_record.shards(out / build_array_record.MEDIA)[0]
  for name, why in (
    (f"{out / build_array_record.MEDIA}#c.mp4", "none of that key"),
    (f"{shard}#a", "a key is a record number"),
    (f"{shard}#9", "fewer records"),
    (f"{tmp_path}/none.array_record#a", "does not exist"),
  ):
    assert why in video.probe(name).error
  (tmp_path / "noise.array_record").write_bytes(b"noise" * 1000)
  assert video.probe(f"{tmp_path}/noise.array_record#0").error


def test_a_plain_array_record_of_files(tmp_path):
  from array_record.python import array_record_module

  path = clips.write_video(tmp_path / "a.mp4", 12)
  writer = array_record_module.ArrayRecordWriter(str(tmp_path / "x.array_record"), "group_size:1")
  writer.write(b"other")
  writer.write(pathlib.Path(path).read_bytes())
  writer.close()
  name = f"{tmp_path}/x.array_record#1"
  assert clips.read_numbers(video.read_frames(name, [0.3, 1.1], SIZE)[0]) == [3, 11]


def test_reading_by_number_opens_each_shard_once(tmp_path):
  from array_record.python import array_record_module

  for shard in range(66):  # More than readers are kept.
    writer = array_record_module.ArrayRecordWriter(
      str(tmp_path / f"x.array_record-{shard:05}-of-00066"), "group_size:1"
    )
    for number in range(2):
      writer.write(f"{shard} {number}".encode())
    writer.close()
  path = f"{tmp_path}/x.array_record"
  opened = array_record._reader_of_version.cache_info().misses
  for number in range(132):
    expected = f"{number // 2} {number % 2}".encode()
    assert array_record.read_number(path, number) == expected
    assert array_record.read_record(path, str(number)) == expected
  opened = array_record._reader_of_version.cache_info().misses - opened
  assert opened <= 2 * 66, "each record opens the shards before it"
  with pytest.raises(ValueError, match="has fewer records than"):
    array_record.read_number(path, 132)
  with pytest.raises(ValueError, match="the file has fewer records"):
    array_record.read_record(path, "132")
  (tmp_path / "x.array_record-00065-of-00066").unlink()
  with pytest.raises(ValueError, match="has fewer records than"):
    array_record.read_number(path, 131)


def test_an_existing_data_set_is_never_replaced(source, built):
  with pytest.raises(ValueError, match="already holds a data set"):
    build_array_record.build_data_set(source, built[0])


def test_of_two_builds_of_a_folder_the_second_is_refused(tmp_path):
  rows = [manifests.question_record(f"Number {number}?", "Yes.") for number in range(3)]
  source = manifests.write_manifest(tmp_path / "m.json", rows)
  with ThreadPoolExecutor(2) as pool:
    builds = [
      pool.submit(build_array_record.build_data_set, source, tmp_path / "out") for _ in "ab"
    ]
  errors = [build.exception() for build in builds]
  assert errors.count(None) == 1
  (refused,) = filter(None, errors)
  assert "already holds a data set" in str(refused)
  assert (tmp_path / "out" / "manifest.jsonl").read_text().count("\n") == 3


def test_shards_are_built_together(tmp_path):
  for number in (0, 1):
    records = [manifests.question_record(f"Question {number}?"), {}]
    manifests.write_manifest(tmp_path / f"train-0000{number}-of-00002.json", records)
  result = build_array_record.build_data_set(tmp_path / "train-*.json", tmp_path / "out")
  assert result.samples == 2
  assert [bad.manifest[-19:] for bad in result.report.bad] == [
    "00000-of-00002.json",
    "00001-of-00002.json",
  ]
  lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
  assert ["Question 0?" in lines[0], "Question 1?" in lines[1]] == [True, True]
  for name in "ab":
    (tmp_path / name).mkdir()
    manifests.write_manifest(tmp_path / name / "m.json", [manifests.question_record("Why?")])
  with pytest.raises(ValueError, match=r"different folders\. Name the folder of their media"):
    build_array_record.build_data_set(tmp_path / "?" / "m.json", tmp_path / "other")


def test_nothing_to_build(tmp_path):
  path = manifests.write_manifest(tmp_path / "m.json", [3])
  with pytest.raises(ValueError, match="no good record"):
    build_array_record.build_data_set(path, tmp_path / "out")


def test_beam_needs_its_extra(source, tmp_path):
  if importlib.util.find_spec("apache_beam"):
    pytest.skip("Apache Beam is installed.")
  with pytest.raises(ValueError, match=r"filax\[beam\]"):
    build_array_record.build_data_set(source, tmp_path / "out", beam="DirectRunner")


def test_beam_builds_the_same(source, built, tmp_path):
  pytest.importorskip("apache_beam")
  ours = build_array_record.build_data_set(source, tmp_path / "out", beam="DirectRunner")
  assert (ours.samples, ours.media) == (4, 3)
  for name in ("videos/a.mp4", "b #1.png", "frames"):
    assert array_record.read_record(str(tmp_path / "out" / build_array_record.MEDIA), name) == (
      array_record.read_record(str(built[0] / build_array_record.MEDIA), name)
    )


def test_tensorflow_is_not_imported(source, tmp_path):
  code = (
    "import sys; from data_pipelines.tools import build_array_record; "
    "build_array_record.build_data_set(sys.argv[1], sys.argv[2]); "
    "assert 'tensorflow' not in sys.modules"
  )
  subprocess.run(
    [sys.executable, "-c", code, source, str(tmp_path / "out")], check=True, capture_output=True
  )


def test_proxies_show_the_same_at_the_same_times(tmp_path):
  path = clips.write_video(tmp_path / "long.mp4", 100, 10, width=128, height=96)
  data = transcode.stored_content(path, transcode.Proxy(2, 48, beyond=5.0))
  found = video.probe(data)
  assert (found.width, found.height, found.frames, found.fps) == (64, 48, 20, 2.0)
  assert clips.read_numbers(clips.read_all(data, SIZE)[0]) == list(range(0, 100, 5))
  whole = pathlib.Path(path).read_bytes()
  assert transcode.stored_content(path, transcode.Proxy(2, 48, beyond=10.0)) == whole
  assert transcode.stored_content(path) == whole


def test_proxies_are_upright_and_never_enlarged(tmp_path):
  path = clips.write_video(tmp_path / "tall.mp4", 20, width=48, height=64, rotation=90)
  found = video.probe(transcode.stored_content(path, transcode.Proxy(5, 384, beyond=1.0)))
  assert (found.width, found.height, found.rotation, found.frames) == (48, 64, 0, 10)


@pytest.mark.parametrize("text", ["", "2", "0,384", "2,15", "2,385", "a,b", "2,384,1"])
def test_proxy_texts(text):
  assert transcode.Proxy.from_text("2.5,224") == transcode.Proxy(2.5, 224)
  with pytest.raises(ValueError, match="--proxy"):
    transcode.Proxy.from_text(text)
