# SPDX-License-Identifier: Apache-2.0
"""Invented files in the form of Ego4D and Ego4D-HCap: tracks and bad entries."""

import json
import pickle

import pytest

from data_pipelines.manifest.report import ManifestError
from data_pipelines.sample import Scene
from data_pipelines.synthesis.sources import ego4d_texts, registry
from data_pipelines.synthesis.sources.json_members import json_members
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.synthesis.track import Part

IDS = [f"0b4cacb1-970f-4ef0-85da-371d81f8990{number}" for number in range(6)]


def read(files):
  report = TrackReport()
  source = registry.find_source("ego4d_hcap")
  tracks = list(source.read_tracks([str(file) for file in files], "", report))
  assert report.samples == len(tracks)
  bad = [(bad.manifest.rpartition("/")[2], bad.line, bad.reason) for bad in report.bad]
  return tracks, bad, report


def video(number, duration=100.0, **fields):
  return dict(video_uid=IDS[number], duration_sec=duration, **fields)


VIDEOS = [
  video(
    0,
    video_metadata=dict(mp4_duration_sec=99.5),
    has_redacted_regions=True,
    redacted_intervals=[dict(start_sec=30, end_sec=40)],
    concurrent_sets=["a"],
  ),
  video(1, is_stereo=True),
  video(2, concurrent_sets=["a"]),
  dict(video_uid=IDS[3]),
]
CLIPS = [
  (IDS[0], 5.0, 6.0, "C looks around"),
  (IDS[0], 1.0, 4.0, "#C C chops a tomato"),
  (IDS[0], 6.2, 8.0, "C looks around"),
  (IDS[0], 29.0, 31.0, "C waits"),
  (IDS[0], 50.0, 52.0, "#O man X waves"),
  (IDS[0], 60.0, 62.0, "#C C picks #unsure"),
  (IDS[0], 98.0, 120.0, "C leaves"),
  (IDS[0], 1.0, 2.0),
  (IDS[1], 1.0, 2.0, "C walks"),
  (IDS[2], 1.0, 2.0, "C walks"),
  (IDS[4], 1.0, 2.0, "C walks"),
  (IDS[0], "1", 2.0, "C walks"),
]
SEGMENTS = [
  dict(vid=IDS[0], sid="s1", start_sec=0, end_sec=20, segment_description="C cooks"),
  dict(vid=IDS[0], sid="s2", start_sec=20, end_sec=45, segment_description="C hides"),
  dict(vid=IDS[0], sid="s3", start_sec=45, end_sec=100, segment_description="C goes"),
  dict(vid=IDS[0], sid="s9", start_sec=0, end_sec=50, segment_description="Other"),
]
SUMMARIES = [
  dict(vid=IDS[0], video_summary="C was in a kitchen", sids=["s1", "s2", "s3"]),
  dict(vid=IDS[0], video_summary="C was in a kitchen", sids=["s1", "s2", "s3"]),
]


@pytest.fixture
def files(tmp_path):
  contents = dict(clips_train=CLIPS, segments_train=SEGMENTS, videos_train=SUMMARIES)
  paths = []
  for name, content in contents.items():
    paths.append(tmp_path / f"{name}.pkl")
    paths[-1].write_bytes(pickle.dumps(content))
  paths.append(tmp_path / "ego4d.json")
  paths[-1].write_text(json.dumps(dict(version=2, videos=VIDEOS, clips=[]), indent=0))
  return paths


def test_levels_become_events_parts_and_summary(files):
  tracks, _, _ = read(files)
  track = tracks[0]
  assert track.media == (Scene(f"{IDS[0]}.mp4", t0=0, t1=99.5),)
  assert [(event.t0, event.t1, event.text) for event in track.events] == [
    (1, 4, "the camera wearer chops a tomato"),
    (5, 8, "the camera wearer looks around"),
    (50, 52, "another person waves"),
    (98, 99.5, "the camera wearer leaves"),
  ]
  assert track.parts == (
    Part(0, 20, "the camera wearer cooks", 0, 2),
    Part(45, 99.5, "the camera wearer goes", 2, 4),
  )
  assert track.summary == "the camera wearer was in a kitchen"


def test_simultaneous_videos_have_one_key(files):
  tracks, _, _ = read(files)
  assert [track.key for track in tracks] == [IDS[0], IDS[0]]
  assert tracks[1].media[0].media == f"{IDS[2]}.mp4"


def test_bad_entries_are_named(files):
  _, bad, report = read(files)
  names = [(name, line) for name, line, _ in bad]
  line = files[3].read_text().split("\n").index(f'"video_uid": "{IDS[3]}"')
  assert names[:3] == [("ego4d.json", line), ("clips_train.pkl", 8), ("clips_train.pkl", 12)]
  reasons = " ".join(reason for _, _, reason in bad)
  for words in (
    "without a duration",
    "not a clip of a video, start, end and caption",
    "not a number of seconds",
    "another summary",
    'segment "s9" of another annotator',
    "two pictures side by side",
    "not in ego4d.json",
  ):
    assert words in reasons
  assert len(bad) == 7
  assert report.repairs == {
    "events: with an unsure word, dropped": 1,
    "events: in redacted stretches, dropped": 1,
    "events: repetitions of the event before, merged into it": 1,
    "events: partly outside of the video, cut": 1,
    "parts: redacted, dropped": 1,
  }


def test_a_summary_of_a_stretch_is_a_track_of_it(files, tmp_path):
  files[2].write_bytes(pickle.dumps([dict(SUMMARIES[0], start_sec=4, end_sec=60)]))
  track = read(files)[0][0]
  assert track.media == (Scene(f"{IDS[0]}.mp4", t0=4, t1=60),)
  assert track.events[0].t0 == 1
  assert track.parts[0] == Part(0, 16, "the camera wearer cooks", 0, 1)


def test_json_is_read_like_pickles(files, tmp_path):
  expected = read(files)[0]
  as_json = [files[3]]
  for path in files[:3]:
    as_json.append(path.with_suffix(".json"))
    as_json[-1].write_text(json.dumps(pickle.loads(path.read_bytes())))
  assert read(as_json)[0] == expected


def test_captions_of_segments_replace_clips(files):
  segments = [dict(SEGMENTS[0], captions_gt=[], captions_pred=[(IDS[0], 2, 3, "C sits")])]
  files[1].write_bytes(pickle.dumps(segments))
  track = read(files[1:])[0][0]
  assert [(event.t0, event.text) for event in track.events] == [(2, "the camera wearer sits")]


def test_narrations_last_to_the_next_one(files, tmp_path):
  narrations = [
    dict(timestamp_sec=second, narration_text=text)
    for second, text in [
      (9.0, "#C C sits"),
      (2.0, "#C C walks"),
      (4.5, "#summary C"),
      (5, "#C C eats"),
    ]
  ]
  summaries = [dict(start_sec=0, end_sec=20, summary_text="#Summary C rests")]
  passes = dict(narration_pass_1=dict(narrations=narrations, summaries=summaries))
  path = tmp_path / "narration.json"
  path.write_text(json.dumps({"videos": {IDS[0]: passes, IDS[2]: dict(status="none")}}))
  tracks, bad, _ = read([path, files[3]])
  assert [(event.t0, event.t1) for event in tracks[0].events] == [(2, 5), (5, 9), (9, 14)]
  assert tracks[0].parts == (Part(0, 20, "the camera wearer rests", 0, 3),)
  assert bad[-1][0] == "narration.json" and "no narrations" in bad[-1][2]


class Planted:
  def __reduce__(self):
    return print, ("executed",)


def test_a_pickle_with_code_is_a_bad_file(files, capsys):
  files[0].write_bytes(pickle.dumps([*CLIPS, Planted()]))
  _, bad, _ = read(files)
  lines = [(line, reason) for name, line, reason in bad if name == "clips_train.pkl"]
  assert any(line == 1 and "nothing was run" in reason for line, reason in lines)
  assert capsys.readouterr().out == ""


def test_validation_files_are_refused(files, tmp_path):
  with pytest.raises(ValueError, match="validation or test split"):
    read([*files, tmp_path / "clips_val.pkl"])


@pytest.mark.parametrize(
  ("text", "plain"),
  [
    ("#C C chops a tomato", "the camera wearer chops a tomato"),
    ("C's hand moves", "the camera wearer's hand moves"),
    ("C writes C++ and takes vitamin C", "the camera wearer writes C++ and takes vitamin C"),
    ("#O A man X talks to C", "another person talks to the camera wearer"),
    ("#O Y passes", "another person passes"),
    ("#O a dog runs", "a dog runs"),
  ],
)
def test_texts_are_plain(text, plain):
  assert ego4d_texts.plain_text(text) == plain


def test_members_are_read_part_by_part(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.manifest.text_window.BLOCK", 16)
  path = tmp_path / "x.json"
  content = {"a": {"b": [1, {"x": "é" * 50}]}, "videos": [{"n": 1}, {"n": 2}], "c": 3.25}
  path.write_text("\ufeff" + json.dumps(content, indent=1))
  members = list(json_members(str(path), ("videos",)))
  assert [(name, value) for _, name, value in members] == [
    ("a", content["a"]),
    ("videos", {"n": 1}),
    ("videos", {"n": 2}),
    ("c", 3.25),
  ]
  assert [line for line, _, _ in members] == [2, 11, 14, 18]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1', '{"a" 1}', '{"a": 1 "b": 2}', "{1: 2}"])
def test_no_object_is_an_error(tmp_path, text):
  path = tmp_path / "x.json"
  path.write_text(text)
  with pytest.raises(ManifestError, match="cannot be read"):
    list(json_members(str(path)))
