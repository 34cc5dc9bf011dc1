# SPDX-License-Identifier: Apache-2.0
"""<image> and <video> as the places of media: which take one, in which order, what is left over."""

import pytest

from data_pipelines.manifest import llava


def read(record):
  report = llava.ManifestReport()
  return llava.parse_record(record, "m.json:1", "", report), report


def record(*said, **more):
  roles = ("human", "gpt")
  turns = [{"from": roles[n % 2], "value": text} for n, text in enumerate(said)]
  return {"conversations": turns, **more}


def paths(sample):
  return [timeline[0].media for timeline in sample.media]


@pytest.mark.parametrize(
  ("question", "parts"),
  [
    ("<video>\nWhat?", (0, "\nWhat?")),
    ("<video>What?", (0, "What?")),
    ("What?\n<video>", (0, "\nWhat?")),
    ("What <video> there?", (0, "\nWhat  there?")),
    ("<video>", (0,)),
  ],
)
def test_a_lone_video_tag(question, parts):
  sample, report = read(record(question, "A", video="a.mp4"))
  assert sample.turns[0].parts == parts
  assert (report.prepended, report.surplus) == (0, 0)


@pytest.mark.parametrize(
  ("question", "parts"),
  [
    ("<video><video>\nSame?", (0, 1, "\nSame?")),
    ("<image> then <video>", (0, " then ", 1)),
    ("<video> then <image>: same?", (0, " then ", 1, ": same?")),
  ],
)
def test_several_videos_in_order(question, parts):
  sample, report = read(record(question, "A", video=["a.mp4", "b.mp4"]))
  assert sample.turns[0].parts == parts
  assert paths(sample) == ["a.mp4", "b.mp4"]
  assert report.surplus == 0


def test_tags_over_turns():
  sample, _ = read(record("<video>\nOne?", "1", "Two? <image>", "2", video=["a.mp4", "b.mp4"]))
  assert [turn.parts for turn in sample.turns] == [(0, "\nOne?"), ("1",), (1, "\nTwo?"), ("2",)]


@pytest.mark.parametrize(
  ("question", "parts"),
  [
    ("<video>\nWhat is a <video>?", (0, "\nWhat is a <video>?")),
    ("<image>\nWhat is a <video>?", (0, "\nWhat is a <video>?")),
    ("<video>\nWhat is an <image>?", (0, "\nWhat is an <image>?")),
  ],
)
def test_tags_beyond_the_media_are_text(question, parts):
  sample, report = read(record(question, "A <video>.", video="a.mp4"))
  assert sample.turns[0].parts == parts
  assert sample.turns[1].parts == ("A <video>.",)
  assert (report.prepended, report.surplus) == (0, 1)


def test_a_video_tag_is_no_place_for_a_picture():
  sample, report = read(record("<image>\nWhat is a <video> tag?", "A", image="a.png"))
  assert sample.turns[0].parts == (0, "\nWhat is a <video> tag?")
  assert report.surplus == 1
  sample, _ = read(record("A <video> tag: <image>", "A", image="a.png"))
  assert sample.turns[0].parts == ("A <video> tag: ", 0)


def test_tags_in_answers_and_system_turns_are_text():
  turns = [("system", "<video> S"), ("human", "<video>\nQ"), ("gpt", "<image> A <video>")]
  sample, report = read(
    {"video": "a.mp4", "conversations": [{"from": role, "value": text} for role, text in turns]}
  )
  assert [turn.parts for turn in sample.turns] == [
    ("<video> S",),
    (0, "\nQ"),
    ("<image> A <video>",),
  ]
  assert report.surplus == 0
  sample, report = read(record("Q", "An <image>.", video="a.mp4"))
  assert sample.turns[0].parts == (0, "\nQ")
  assert report.prepended == 1


@pytest.mark.parametrize(
  ("question", "parts", "order"),
  [
    ("<video> or <image>?", (0, " or ", 1, "?"), ["v.mp4", "p.png"]),
    ("<image> or <video>?", (0, " or ", 1, "?"), ["p.png", "v.mp4"]),
  ],
)
def test_lists_of_both_kinds(question, parts, order):
  sample, _ = read(record(question, "A", image="p.png", video="v.mp4"))
  assert sample.turns[0].parts == parts
  assert paths(sample) == order
  kinds = {"v.mp4": "video", "p.png": "image"}
  assert [timeline[0].kind for timeline in sample.media] == [kinds[path] for path in order]


def test_each_list_keeps_its_order():
  question = "<video><image><image><video> and <image>"
  sample, report = read(
    record(question, "A", image=["1.png", "2.png"], video=["1.mp4", "2.mp4"], start=[1, 2])
  )
  assert paths(sample) == ["1.mp4", "1.png", "2.png", "2.mp4"]
  assert [timeline[0].t0 for timeline in sample.media] == [1, 0, 0, 2]
  assert sample.turns[0].parts == (0, 1, 2, 3, " and <image>")
  assert report.surplus == 1


def test_timelines_of_both_kinds():
  scenes = [[{"media": "v.mp4"}], [{"media": "p.png", "kind": "image"}]]
  sample, _ = read(record("<video>, <image>", "A", scenes=scenes))
  assert sample.turns[0].parts == (0, ", ", 1)


BAD = {
  "has 2 media but 1 <image>": record("<image>", "A", video=["a", "b"]),
  "has 2 media but 1 <image> or <video>": record("<video>", "A", video=["a", "b"]),
  "has <video> but no video: 1 media in image": record("<video>\nQ", "A", image="a.png"),
  "has 2 media but 1 <image> or <video> that": record(
    "<video>, <video>", "A", scenes=[[{"media": "v"}], [{"media": "p", "kind": "image"}]]
  ),
  "has image and video; use one": record("Q", "A", image="a.png", video="b.mp4"),
  "or write 1 <image> and 2 <video>": record(
    "<image><image><video>", "A", image="a.png", video=["b.mp4", "c.mp4"]
  ),
  "has image and scenes; use one": record(
    "<image><image>", "A", image="a.png", scenes=[{"media": "b"}]
  ),
  'shows a place by "<Video>"': record("<Video>\nQ", "A", video="a.mp4"),
  'shows a place by "<|image_pad|>"': record("<|image_pad|> Q", "A", image="a.png"),
  'shows a place by "<ImageHere>"': record("Q <ImageHere>", "A", image="a.png"),
  'shows a place by "<image_1>"': record("<image_1> Q", "A", image="a.png"),
}


@pytest.mark.parametrize("why", BAD)
def test_media_without_a_place(why):
  with pytest.raises(llava.RecordError) as error:
    read(BAD[why])
  assert why in str(error.value)


@pytest.mark.parametrize(
  "question",
  [
    "<image>\nWhat is it?",
    "<video>\nWhat is it?",
    "<image>What is it?",
    "What is it?\n<video>",
    "What is it? <image>",
    " <image> ",
    "Look:\n<video>\nWhat?",
  ],
)
def test_a_place_without_a_medium(question):
  with pytest.raises(llava.RecordError, match=r"^has <(image|video)> but no medium: it has no "):
    read(record(question, "A"))


@pytest.mark.parametrize(
  "question", ["What does <image> mean?", "Is <video> HTML?", "Write <img> and <IMAGE>."]
)
def test_a_tag_in_a_sentence_without_media_is_text(question):
  sample, _ = read(record(question, "It is <video>."))
  assert sample.turns[0].parts == (question,)
  assert sample.media == ()
