# SPDX-License-Identifier: Apache-2.0
"""Splits are by source video, under all its names."""

import json

import pytest

from data_pipelines.manifest.quarantine import read_quarantine
from data_pipelines.synthesis import splits

UID = "0b4cacb1-970f-4ef0-85da-371d81f899e0"


@pytest.mark.parametrize(
  ("name", "key"),
  [
    ("liwei_youtube_videos/videos/youtube_video_2024/ytb_-aB3_cdEfgh.mp4", "-aB3_cdEfgh"),
    ("activitynet/v1-3/train_val/v_QOlSCBRmfWY.mp4", "QOlSCBRmfWY"),
    ("howto100m/AbCdEfGhIjK.webm", "AbCdEfGhIjK"),
    ("AbCdEfGhIjK.MKV", "AbCdEfGhIjK"),
    ("abcdefghijk.mp4", "abcdefghijk"),
    ("AbCdEfGhIjK", "AbCdEfGhIjK"),
    ("qvhighlights/AbCdEfGhIjK_60.0_210.0.mp4", "AbCdEfGhIjK"),
    ("AbCdEfGhIjK_12_30", "AbCdEfGhIjK"),
    ("QMi8x8o55Ns.1.mp4", "QMi8x8o55Ns"),
    ("339dXVNQXac/339dXVNQXac-Scene-001.mp4", "339dXVNQXac"),
    ("IIvwqskxtdE_0.mp4", "IIvwqskxtdE"),
    ("AbCdEfGhIjK_138_13to174.mp4", "AbCdEfGhIjK"),
    ("000000008783_AJp_ANXoGoM-000114.mp4", "AJp_ANXoGoM"),
    ("000000008783_AJp_ANXoGoM-000114", "AJp_ANXoGoM"),
    ("https://www.youtube.com/watch?v=---4IxR2xOg", "---4IxR2xOg"),
    ("https://youtu.be/AbCdEfGhIjK?t=3", "AbCdEfGhIjK"),
    ("academic_source/youcook2/GLd3aX16zBg/split_3.mp4", "GLd3aX16zBg"),
    ("academic_source/Charades/RW587.mp4", "RW587"),
    ("Charades/RW587_4.5_12.0.mp4", "RW587"),
    (f"ego4d/{UID}.mp4", UID),
    (f"ego4d/{UID.upper()}_300_600.mp4", UID),
    (f"ego4d/{UID}/0.mp4", UID),
    ("NextQA/NExTVideo/1164/3238737531.mp4", "3238737531"),
    ("perception_test/video_10909.mp4", "video_10909"),
    ("frames/AbCdEfGhIjK@1fps", "AbCdEfGhIjK"),
    ("frames/harbour@4fps/", "harbour"),
    ("clips.array_record#yt/AbCdEfGhIjK.mp4", "AbCdEfGhIjK"),
    ("hub/train-00000.parquet#3/video", "train-00000#3/video"),
    ("hub/train-00000.parquet#4/images/2", "train-00000#4/images/2"),
    ("C:\\hub\\x.parquet#3/video", "x#3/video"),
    ("shards/7.tar#clips/AbCdEfGhIjK.mp4", "AbCdEfGhIjK"),
    ("C:\\videos\\AbCdEfGhIjK.mp4", "AbCdEfGhIjK"),
    ("a.b/some.talk", "some.talk"),
  ],
)
def test_a_source_has_one_key_under_all_names(name, key):
  assert splits.source_key(name) == key


@pytest.mark.parametrize("name", ["00000/0000000_00003.mp4", "", "/"])
def test_a_name_that_identifies_no_video_is_an_error(name):
  with pytest.raises(ValueError, match=r"identify no video|names no video"):
    splits.source_key(name)


def test_concurrent_videos_have_one_key():
  keys = splits.joined_keys([["b", "c"], ["x"], ["c.mp4", "a"], []])
  assert keys == dict(a="a", b="a", c="a", x="x")


def test_splits_are_even_and_stay_when_videos_are_added():
  names = [splits.split_of(f"video{i}", dict(held_out=0.1, test=0.2), 42) for i in range(3000)]
  assert 0.08 < names.count("held_out") / 3000 < 0.12
  assert 0.17 < names.count("test") / 3000 < 0.23
  assert splits.split_of("video7", dict(held_out=0.1, test=0.2), 42) == names[7]
  assert {splits.split_of(f"video{i}", dict(held_out=0.0), 42) for i in range(99)} == {"train"}


ROWS = [{"video_id": "001", "videoID": "AbCdEfGhIjK"}, {"video_id": "002", "videoID": "ytb_ZZZ"}]


@pytest.mark.parametrize(
  ("name", "text", "keys"),
  [
    ("a.txt", "# of a benchmark\n\nv_AbCdEfGhIjK.mp4\nb/RW587.mp4\n", {"AbCdEfGhIjK", "RW587"}),
    ("a.txt", "AbCdEfGhIjK", {"AbCdEfGhIjK"}),
    ("a.json", json.dumps(["AbCdEfGhIjK.mp4", "x"]), {"AbCdEfGhIjK", "x"}),
    ("a.json", json.dumps(ROWS), {"AbCdEfGhIjK", "ytb_ZZZ"}),
    ("a.jsonl", "\n".join(map(json.dumps, ROWS)), {"AbCdEfGhIjK", "ytb_ZZZ"}),
    ("a.json", json.dumps({"v_AbCdEfGhIjK": {"duration": 3}}), {"AbCdEfGhIjK"}),
    ("a.json", json.dumps({"version": 1, "database": {"AbCdEfGhIjK": {}}}), {"AbCdEfGhIjK"}),
    ("a.csv", '\ufeffvideo,question\n4010069381,"a, b"\n2,c\n', {"4010069381", "2"}),
    ("a.tsv", "question\tq_uid\nx\tu1\n", {"u1"}),
    ("a.jsonl", '{"key": "Cm73ma6Ibcs", "type": "cartoon"}\n', {"Cm73ma6Ibcs"}),
  ],
)
def test_lists_of_videos_are_read_in_all_forms(tmp_path, name, text, keys):
  path = tmp_path / name
  path.write_text(text)
  assert splits.read_id_list(path) == keys


@pytest.mark.parametrize(
  ("name", "text", "reason"),
  [
    ("a.txt", "", "is empty"),
    ("a.csv", "video,question\n,c\n", "a.csv:2: .*names no video"),
    ("a.txt", "0000000_00003.mp4\n", "a.txt:1: .*identify no video"),
    ("a.json", json.dumps({"train": ["a"], "val_seen": ["b"]}), "a list of their own"),
    ("a.jsonl", '{"video": "a"}\n{"video": \n', "a.jsonl:2: .*not JSON"),
    ("a.bin", b"\xff\xfe\xfa", "cannot be read"),
  ],
)
def test_lists_that_name_no_videos_are_refused(tmp_path, name, text, reason):
  path = tmp_path / name
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(ValueError, match=reason):
    splits.read_id_list(path)


def test_held_out_media_are_in_the_form_of_exclude(tmp_path):
  path = tmp_path / "held_out_media.jsonl"
  assert splits.write_held_out_list(path, ["m/a.mp4", "m/é.mp4"]) == 2
  assert read_quarantine(path) == {"m/a.mp4", "m/é.mp4"}
