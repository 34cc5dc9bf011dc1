# SPDX-License-Identifier: Apache-2.0
"""The manifest format: what records become, and what is said about bad ones."""

import json
import pathlib

import numpy as np
import pytest

from data_pipelines.manifest import llava
from data_pipelines.manifest.reader import manifest_records, select_records
from data_pipelines.sample import Sample, Scene, Turn
from filax.testing import manifests


def read(tmp_path, rows, name="m.json", root="/media"):
  report = llava.ManifestReport()
  samples = list(llava.read_manifest(manifests.write_manifest(tmp_path / name, rows), root, report))
  return samples, report


def one(tmp_path, **record):
  samples, report = read(tmp_path, [manifests.question_record(**record)])
  assert not report.bad
  return samples[0], report


def reason(tmp_path, record):
  samples, report = read(tmp_path, [record])
  assert not samples and len(report.bad) == 1
  return report.bad[0].reason


@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
def test_a_whole_sample(name, tmp_path):
  row = manifests.question_record("<image>\nWhat?", "Bars.", id=7, kind="bars", video="a/b.mp4")
  (sample,), report = read(tmp_path, [row], name)
  assert sample == Sample(
    id="7",
    turns=(Turn("user", (0, "\nWhat?")), Turn("assistant", ("Bars.",))),
    media=((Scene("/media/a/b.mp4"),),),
    kind="bars",
    origin=f"{tmp_path / name}:{2 if name == 'm.json' else 1}",
  )
  assert (report.samples, report.prepended, report.surplus, report.bad) == (1, 0, 0, [])


def test_root_is_the_folder_of_the_manifest(tmp_path):
  (sample,), _ = read(tmp_path, [manifests.question_record("<image>", video="a.mp4")], root="")
  assert sample.media == ((Scene(str(tmp_path / "a.mp4")),),)


def test_text_only(tmp_path):
  for nothing in ({}, {"image": None}, {"video": ""}, {"video": []}):
    sample, _ = one(tmp_path, **nothing)
    assert sample.media == () and sample.turns[0].parts == ("What is seen?",)


def test_images_and_videos_in_lists(tmp_path):
  sample, _ = one(tmp_path, question="<image>\n<image>\nSame?", image=["a.png", "b.png"])
  assert sample.media == tuple((Scene(f"/media/{n}.png", "image"),) for n in "ab")
  assert sample.turns[0].parts == (0, "\n", 1, "\nSame?")
  sample, _ = one(
    tmp_path, question="<image><image>", video=["a.mp4", "b"], start=[1, 0], end=[2.5, None]
  )
  assert sample.media == ((Scene("/media/a.mp4", t0=1.0, t1=2.5),), (Scene("/media/b"),))


def test_start_and_end(tmp_path):
  sample, _ = one(tmp_path, question="<image>", video="a.mp4", start=3, end=9.5)
  assert sample.media == ((Scene("/media/a.mp4", t0=3.0, t1=9.5),),)
  sample, _ = one(tmp_path, question="<image>", video="a.mp4", end=2)
  assert sample.media == ((Scene("/media/a.mp4", t1=2.0),),)


@pytest.mark.parametrize(
  ("video", "fps", "medium"),
  [
    ("frames/a", 3, "frames/a@3fps"),
    ("frames/a/", 29.97, "frames/a@29.97fps"),
    ("frames/a@4fps", 3, "frames/a@4fps"),
    ("frames/a", "often", "frames/a"),
    ("a.mp4", 3, "a.mp4"),  # How often it is to be sampled.
    ("part.tar#a", 3, "part.tar#a"),
    ("frames/v1.5", 3, "frames/v1.5@3fps"),
  ],
)
def test_fps_is_the_rate_of_a_folder(video, fps, medium, tmp_path):
  sample, _ = one(tmp_path, video=video, fps=fps)
  assert sample.media == ((Scene(f"/media/{medium}"),),)


def test_scenes_are_one_timeline(tmp_path):
  scenes = [
    {"media": "a.mp4", "t0": 5, "t1": 8},
    {"media": "b.mp4", "t1": 4},
    {"media": "n.png", "kind": "still", "t1": 0.5, "at": 1.5},
  ]
  sample, _ = one(tmp_path, question="<image>", scenes=scenes)
  assert sample.media == (
    (
      Scene("/media/a.mp4", t0=5.0, t1=8.0),
      Scene("/media/b.mp4", t1=4.0, at=3.0),
      Scene("/media/n.png", "still", t1=0.5, at=1.5),
    ),
  )


def test_lists_of_scenes_are_several_timelines(tmp_path):
  scenes = [[{"media": "a.mp4"}], [{"media": "p.png", "kind": "image"}]]
  sample, _ = one(tmp_path, question="<image> and <image>", scenes=scenes)
  assert sample.media == ((Scene("/media/a.mp4"),), (Scene("/media/p.png", "image"),))
  assert sample.turns[0].parts == (0, " and ", 1)


@pytest.mark.parametrize(
  "question, parts",
  [
    ("<image>\nWhat?", (0, "\nWhat?")),
    ("<image>What?", (0, "What?")),  # At the start: as it is.
    ("What?\n<image>", (0, "\nWhat?")),  # Elsewhere: moved to the front, with a newline.
    ("What <image> there?  ", (0, "\nWhat  there?")),
    (" <image>\nWhat?", (0, "\nWhat?")),
    ("<image>", (0,)),
  ],
)
def test_a_lone_placeholder_goes_first(question, parts, tmp_path):
  sample, report = one(tmp_path, question=question, video="a.mp4")
  assert sample.turns[0].parts == parts and report.prepended == 0


def test_missing_placeholders_are_prepended_and_counted(tmp_path):
  sample, report = one(tmp_path, question="What?", image=["a.png", "b.png"])
  assert sample.turns[0].parts == (0, "\n", 1, "\nWhat?")
  assert report.prepended == 1


def test_surplus_placeholders_are_ordinary_text(tmp_path):
  sample, report = one(tmp_path, question="Why <image>? <image>", image="a.png")
  assert sample.turns[0].parts == ("Why ", 0, "? <image>")
  assert report.surplus == 1
  sample, _ = one(tmp_path, question="What does <image> mean?")
  assert sample.turns[0].parts == ("What does <image> mean?",)


def test_placeholders_over_turns(tmp_path):
  said = [
    ("system", "Be <image> brief."),
    ("human", "See <image>"),
    ("gpt", "Yes <image>."),
    ("human", "And this? <image>"),
    ("gpt", "No."),
    ("human", "<image>?"),
    ("gpt", "?"),
  ]
  row = {"image": ["a", "b"], "conversations": [{"from": f, "value": v} for f, v in said]}
  (sample,), report = read(tmp_path, [row])
  assert [t.parts for t in sample.turns] == [
    ("Be <image> brief.",),
    (0, "\nSee"),
    ("Yes <image>.",),
    (1, "\nAnd this?"),
    ("No.",),
    ("<image>?",),
    ("?",),
  ]
  assert [t.role for t in sample.turns[:3]] == ["system", "user", "assistant"]
  assert report.surplus == 1


def test_a_first_turn_that_is_not_the_humans_is_dropped(tmp_path):
  said = [("gpt", "Hello."), ("human", "<image>\nHi"), ("gpt", "A.")]
  rows = [
    {"video": "a", "conversations": [{"from": f, "value": v} for f, v in turns]}
    for turns in (said, [("system", "S"), *said])
  ]
  samples, report = read(tmp_path, rows)
  assert [[t.role for t in s.turns] for s in samples] == [
    ["user", "assistant"],
    ["system", "user", "assistant"],
  ]
  assert report.dropped_turns == 2


def test_a_system_prompt_under_its_own_key(tmp_path):
  sample, _ = one(tmp_path, video="a.mp4", system="Be brief.")
  assert [(turn.role, turn.parts[0]) for turn in sample.turns][:2] == [
    ("system", "Be brief."),
    ("user", 0),
  ]


def test_a_question_that_other_software_does_not_learn(tmp_path):
  question = {"from": "human", "value": "<image>\nHi", "weight": 0, "loss": False}
  row = {"video": "a", "conversations": [question, {"from": "gpt", "value": "A.", "weight": 1}]}
  (sample,), report = read(tmp_path, [row])
  assert [turn.role for turn in sample.turns] == ["user", "assistant"]
  assert not report.bad


def test_control_words_stay_text(tmp_path):
  sample, _ = one(tmp_path, question="<|im_end|><image>", image="a.png")
  assert sample.turns[0].parts == (0, "\n<|im_end|>")


BAD = {
  "is 3, not an object": 3,
  'no caption of a medium; its keys are "id, answers"': {"id": 1, "answers": ["a"]},
  'keys, such as "a", name records': {"a": manifests.question_record()},
  'keys, such as "v_1", name records; save these as an array, each with the name of its medium': {
    "v_1": {"duration": 9.5, "timestamps": [[0.5, 9]], "sentences": ["A man."]}
  },
  'its keys are "video, list"': {"video": "a.mp4", "list": [{"question": "Q", "answer": "A"}]},
  'its key "annotations" holds 1 records': {"annotations": [{"video": "a.mp4", "caption": "A"}]},
  "is a mixture of LLaVA-OneVision": {"datasets": [{"json_path": "a.json"}]},
  'has "tools": "[]x", which is not read': manifests.question_record(tools="[]x"),
  'has system ["S"], which is not a text': manifests.question_record(system=["S"]),
  "has turn 2 with weight 0, which is not read": {
    "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}]
  },
  "has conversations [], which is not a list": {"conversations": []},
  'has turn 2 {"from": "gpt"} without': {
    "conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]
  },
  'has turn 1 from "robot"': {"conversations": [{"from": "robot", "value": "a"}]},
  "has turn 1 from [1]": {"conversations": [{"from": [1], "value": "a"}]},
  "no turn from gpt": {"conversations": [{"from": "human", "value": "a"}]},
  "no turn from human": {"conversations": [{"from": "gpt", "value": "a"}] * 1},
  "empty answer": manifests.question_record(answer=" \n"),
  "has turn 1 that is not UTF-8": manifests.question_record("\ud800"),
  "has image and video; use one": manifests.question_record(image="a", video="b"),
  "has 2 media but 1 <image>": manifests.question_record("<image>", image=["a", "b"]),
  "names a medium by 5": manifests.question_record(video=5),
  'names a medium by ""': manifests.question_record(image=["a", ""]),
  "has 2 videos but 1 start": manifests.question_record(video=["a", "b"], start=1),
  'has start "1:00", which is not a number': manifests.question_record(video="a", start="1:00"),
  "has end NaN": manifests.question_record(video="a", end=float("nan")),
  "has end true": manifests.question_record(video="a", end=True),
  "which is not a number of seconds": manifests.question_record(video="a", end=10**400),
  "from 5 to 5 seconds, which ends before": manifests.question_record(video="a", start=5, end=5),
  "time before 0": manifests.question_record(video="a", start=-1, end=5),
  "which is not a list of scenes": manifests.question_record(scenes="a.mp4"),
  "which is not an object": manifests.question_record(scenes=["a.mp4"]),
  "names a medium by null": manifests.question_record(scenes=[{"t1": 3}]),
  'kind "film"': manifests.question_record(scenes=[{"media": "a", "kind": "film"}]),
  "without at after one without t1": manifests.question_record(
    scenes=[{"media": "a"}, {"media": "b"}]
  ),
  "still without t1": manifests.question_record(scenes=[{"media": "a", "kind": "still"}]),
  "has an image among scenes": manifests.question_record(
    scenes=[{"media": "a", "t1": 1}, {"media": "b", "kind": "image"}]
  ),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_records(why, tmp_path):
  assert why in reason(tmp_path, BAD[why])


def test_bad_records_are_named_by_line_and_left_out(tmp_path):
  good = manifests.question_record("<image>", video="a.mp4")
  path = tmp_path / "m.json"
  path.write_text(
    "[\n"
    + json.dumps(good)
    + ",\n\n"
    + json.dumps({"id": 1})
    + ", 5,\n"
    + json.dumps(good, indent=2)
    + ",\n"
    + json.dumps([])
    + "\n]"
  )
  report = llava.ManifestReport()
  samples = list(llava.read_manifest(path, "", report))
  lines = len(json.dumps(good, indent=2).splitlines())
  assert [s.origin.rsplit(":", 1)[1] for s in samples] == ["2", "5"]
  assert [b.line for b in report.bad] == [4, 4, 5 + lines]
  assert str(report.bad[0]).startswith(f"{path}:4: has no conversations, ")


def test_damage_in_an_array_keeps_what_is_before_it(tmp_path):
  good = json.dumps(manifests.question_record())
  for text, kept, line in (
    (f"[{good},\n{good},\n{{oops", 2, 3),
    (f"[{good}\n{good}]", 1, 2),
    (f"[\n{good},\n", 1, 3),
  ):
    (tmp_path / "m.json").write_text(text)
    report = llava.ManifestReport()
    assert len(list(llava.read_manifest(tmp_path / "m.json", "", report))) == kept
    assert [b.line for b in report.bad] == [line] and "rest cannot be read" in str(report.bad[0])


def test_damaged_lines_cost_only_themselves(tmp_path):
  good = json.dumps(manifests.question_record()).encode()
  deep = b'{"a":' + b"[" * 100_000
  path = tmp_path / "m.jsonl"
  path.write_bytes(
    b"\n".join([good, b"{oops", b"", good, b"\xff" + good, deep, good[:-20] + b"\xff" + good[-20:]])
    + b"\r\n"
    + good
  )
  report = llava.ManifestReport()
  assert [s.origin.rsplit(":")[-1] for s in llava.read_manifest(path, "", report)] == [
    "1",
    "4",
    "8",
  ]
  assert [b.line for b in report.bad] == [2, 5, 6, 7]


def test_unusable_manifests(tmp_path):
  for name, data, why in (
    ("none.json", None, "No such file"),
    ("empty.json", b" \n", "is empty"),
    ("text.json", b"hello", "neither a JSON array"),
    ("none.array_record", None, "does not exist"),
  ):
    path = tmp_path / name
    if data is not None:
      path.write_bytes(data)
    with pytest.raises(llava.ManifestError, match=why):
      list(llava.read_manifest(path))
  with pytest.raises(llava.ManifestError):
    list(llava.read_manifest(tmp_path))


def test_an_empty_array_has_no_samples(tmp_path):
  assert read(tmp_path, []) == ([], llava.ManifestReport())


def test_lines_of_any_array(tmp_path):
  rows = [{"a": "x\ny"}, 1, [2], None]
  for indent in (None, 0, 3):
    pathlib.Path(tmp_path / "m.json").write_text(" \n" + json.dumps(rows, indent=indent))
    found = list(manifest_records(tmp_path / "m.json"))
    assert [row for _, row in found] == rows
    lines = (" \n" + json.dumps(rows, indent=indent)).splitlines()
    for line, row in found:
      assert json.dumps(row)[0] in lines[line - 1]


@pytest.mark.parametrize(
  "strategy, expected",
  [
    ("all", range(25)),
    ("first:3", range(3)),
    ("first:10%", range(3)),
    ("end:4", range(21, 25)),
    ("end:1%", range(24, 25)),
    ("first:0", ()),
    ("first:99", range(25)),
    ("random:100%", range(25)),
    ("first:28%", range(7)),
  ],
)
def test_strategies(strategy, expected):
  assert select_records(25, strategy).tolist() == list(expected)


def test_random_is_seeded_and_ordered():
  draws = [select_records(1000, "random:10%", seed) for seed in (0, 0, 1)]
  assert len(draws[0]) == len(set(draws[0])) == 100
  assert (np.diff(draws[0]) > 0).all()
  assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
  assert 400 < draws[0].mean() < 600


@pytest.mark.parametrize("strategy", ["", "last:3", "first:", "first:x", "first:-1", "end:1.2.3%"])
def test_unknown_strategies(strategy):
  with pytest.raises(ValueError, match=r"config\.data\.train"):
    select_records(10, strategy)
