# SPDX-License-Identifier: Apache-2.0
"""Messages, pairs, captions and grounding: placement, and what is said of bad records."""

import pytest

from data_pipelines.manifest import llava
from data_pipelines.sample import Scene


def read(record):
  report = llava.ManifestReport()
  return llava.parse_record(record, "m.json:1", "/media", report), report


def reason(record):
  with pytest.raises(llava.RecordError) as error:
    read(record)
  return str(error.value)


def messages(content, answer="Yes.", **keys):
  user = {"role": "user", "content": content}
  return {"messages": [user, {"role": "assistant", "content": answer}]} | keys


def text(content):
  return {"type": "text", "text": content}


def test_tags_stay_where_they_stand():
  sample, _ = read(messages("What <video> is it?", videos=["a.mp4"]))
  assert sample.turns[0].parts == ("What ", 0, " is it?")


def test_media_without_tags_come_first():
  sample, report = read(messages("Same?", videos=["a.mp4"], images=["b.png"]))
  assert sample.turns[0].parts == (0, "\n", 1, "\nSame?")
  assert [timeline[0].kind for timeline in sample.media] == ["image", "video"]
  assert report.prepended == 1


def test_tags_in_parts_are_text_beside_media():
  sample, _ = read(messages([text("Why <video>? "), {"type": "video"}], videos=["a.mp4"]))
  assert sample.turns[0].parts == ("Why <video>? ", 0)


def test_tags_of_text_parts_show_the_lists_without_other_parts():
  sample, _ = read(messages([text("<video>"), text("Why?")], videos=["a.mp4"]))
  assert sample.turns[0].parts == (0, "Why?")


def test_a_sentence_about_a_tag_is_text():
  sample, _ = read(messages("What does <image> mean in HTML?"))
  assert sample.turns[0].parts == ("What does <image> mean in HTML?",)


def test_control_tokens_are_text():
  sample, _ = read(messages("<|im_end|><|vision_start|>Hm?"))
  assert sample.turns[0].parts == ("<|im_end|><|vision_start|>Hm?",)


def test_columns_without_values_are_no_media():
  part = {"type": "text", "text": "Q", "image": None, "video": None}
  sample, _ = read(messages([part], images=None, videos=[], tools=None))
  assert sample.media == () and sample.turns[0].parts == ("Q",)


def test_an_answer_that_begins_is_dropped():
  record = messages("Q")
  record["messages"].insert(0, {"role": "assistant", "content": "Hello"})
  sample, report = read(record)
  assert [turn.role for turn in sample.turns] == ["user", "assistant"]
  assert report.dropped_turns == 1


def test_turns_of_roles_under_conversations():
  turns = messages("<image>Q", images=["a.png"])
  turns["conversations"] = turns.pop("messages")
  assert read(turns)[0].media == ((Scene("/media/a.png", "image"),),)


@pytest.mark.parametrize("key", ["video", "videos"])
@pytest.mark.parametrize("form", ["messages", "pair", "caption"])
def test_start_and_end_of_a_record(form, key):
  forms = {
    "messages": messages("What?"),
    "pair": {"question": "What?", "answer": "Yes."},
    "caption": {"caption": "Yes."},
  }
  part = Scene("/media/a.mp4", "video", 1.0, 2.0)
  assert read({**forms[form], key: "a.mp4", "start": 1, "end": 2})[0].media == ((part,),)
  two = {**forms[form], key: ["a.mp4", "b.mp4"], "start": [1, 0], "end": [2, 3]}
  assert read(two)[0].media == ((part,), (Scene("/media/b.mp4", "video", 0.0, 3.0),))
  assert reason({**two, "end": 2}) == "has 2 videos but 1 end"


@pytest.mark.parametrize("form", ["messages", "pair", "grounding", "QA", "solution"])
def test_fps_of_a_record_is_the_rate_of_its_pictures(form):
  forms = {
    "messages": messages("What?"),
    "pair": {"question": "What?", "answer": "Yes."},
    "grounding": {"caption": "a goal", "timestamp": [1, 2]},
    "QA": {"QA": [{"q": "What?", "a": "Yes."}]},
    "solution": {"problem": "What?", "solution": "<answer>Yes.</answer>"},
  }
  sample, _ = read({**forms[form], "video": "frames/a", "fps": 3})
  assert sample.media == ((Scene("/media/frames/a@3fps"),),)


def test_fps_of_a_record_is_the_rate_of_its_lists_of_pictures():
  sample, _ = read(messages("What?", videos=[["a.jpg", "b.jpg"]], fps=4))
  assert [scene.at for scene in sample.media[0]] == [0.0, 0.25]
  video = {"video": ["a.jpg", "b.jpg"], "fps": 1}  # Its own rate is the one that holds.
  sample, _ = read(messages("What?", videos=[video], fps=4))
  assert [scene.at for scene in sample.media[0]] == [0.0, 1.0]


def test_sentences_without_times_are_ignored_beside_a_caption_with_times():
  sample, _ = read({"video": "a", "caption": "A goal.", "span": [1, 2], "sentences": ["A goal."]})
  assert sample.turns[-1].text == "The event happens in the 1.0 - 2.0 seconds."


@pytest.mark.parametrize(
  "times",
  [
    {"query": "Why?", "response": "So.", "timestamp": [1, 2]},
    {"question": "Why?", "answer": "So.", "caption": "A goal.", "span": [1, 2]},
    {"question": "Why?", "answer": "So.", "sentences": ["A goal."], "timestamps": [[1, 2]]},
  ],
)
def test_a_written_answer_is_learned_not_the_times_beside_it(times):
  sample, _ = read({"video": "a.mp4", **times})
  assert [turn.text for turn in sample.turns] == ["\nWhy?", "So."]


def test_times_of_a_video_without_times_of_the_record():
  video = {"video": "a.mp4", "start": 1, "end": 2}
  assert read(messages("What?", videos=[video]))[0].media[0][0].t0 == 1.0


def test_scenes_are_a_part():
  scenes = [dict(media="a.mp4", t1=2), dict(media="b.png", kind="still", t1=1)]
  sample, _ = read(messages([dict(type="video", scenes=scenes)]))
  assert sample.media[0][1] == Scene("/media/b.png", "still", t1=1.0, at=2.0)


COLOURS = ["red", "blue"]
ASKED = "Which?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."


def question(answer="B", options=None, **keys):
  record = {"question": "Which?", "answer": answer, "video": "a.mp4"}
  return record | ({} if options is None else {"options": options}) | keys


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "blue", "Blue.", "B. blue"])
@pytest.mark.parametrize(
  "options", [COLOURS, ["A. red", "B. blue"], ["(A) red", "(B) blue"], {"B": "blue", "A": "red"}]
)
def test_options_are_asked_and_answered_by_letter(answer, options):
  sample, _ = read(question(answer, options))
  assert sample.turns[0].parts == (0, "\n" + ASKED)
  assert sample.turns[1].text == "B"


def test_video_instruct_names_a_video_by_its_id():
  record = {"q": "What happens?", "a": "A goal.", "video_id": "v_k_ZXmr8pmrs"}
  sample, _ = read(record)
  assert sample.media == ((Scene("/media/v_k_ZXmr8pmrs.mp4"),),)
  assert read(record | {"video": "b.mp4"})[0].media == ((Scene("/media/b.mp4"),),)


def test_a_film_of_moviechat():
  about = [{"question": "Who?", "answer": "A man."}, {"question": "When?", "answer": "At night."}]
  record = {"info": {"video_path": "1.mp4"}, "global": about, "caption": "It is dark."}
  sample, report = read(record | {"breakpoint": [{"time": 3, "question": "Q", "answer": "A"}]})
  assert sample.media == ((Scene("/media/1.mp4"),),) and report.unread == {"breakpoint": 1}
  assert [turn.text for turn in sample.turns] == [
    *("\nWho?", "A man.", "When?", "At night."),
    *("Describe the video.", "It is dark."),
  ]


def test_options_that_the_question_lists_are_not_asked_twice():
  asked = "Which?\n(A) red\n(B) blue"
  sample, _ = read(question("B. blue", COLOURS) | {"question": asked})
  assert sample.turns[0].text == "\n" + asked
  assert sample.turns[1].text == "B. blue"


@pytest.mark.parametrize("answer", ["B", "(B)", "blue"])
def test_options_beside_turns_are_asked(answer):
  asked = [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt", "value": answer}]
  llava_style, _ = read({"conversations": asked, "video": "a.mp4", "options": COLOURS})
  of_messages, _ = read(messages("<video>\nWhich?", answer, videos=["a.mp4"], options=COLOURS))
  parts, _ = read(
    messages([{"type": "video", "video": "a.mp4"}, "\nWhich?"], answer, options=COLOURS)
  )
  for sample in (llava_style, of_messages, parts):
    assert sample.turns[0].parts == (0, "\n" + ASKED)
    assert sample.turns[1].text == "B"


def test_turns_that_need_no_options_stay():
  listed = messages("<video>Which?\n(A) red\n(B) blue", "B", videos=["a.mp4"], options=COLOURS)
  spoken = messages("<video>Which?", "It is blue.", videos=["a.mp4"], options=COLOURS)
  other = messages("<video>Which?", "blue", videos=["a.mp4"], options={"beams": 1})
  for record in (listed, spoken, other):
    sample, _ = read(record)
    assert sample.turns[0].text == record["messages"][0]["content"].removeprefix("<video>")
    assert sample.turns[1].text == record["messages"][1]["content"]


@pytest.mark.parametrize("answer", [1, "1", 1.0, "to rest"])
@pytest.mark.parametrize("video", [4010069381, "4010069381", "4010069381.mp4"])
def test_options_numbered_from_0(answer, video):
  options = dict(a0="to eat", a1="to rest", a2="to read")
  sample, _ = read(dict(video=video, question="why did he sit", answer=answer, qid=6, **options))
  assert sample.media == ((Scene("/media/4010069381.mp4"),),)
  assert sample.turns[0].text.startswith("\nwhy did he sit\nA. to eat\nB. to rest\nC. to read\n")
  assert sample.turns[1].text == "B"


def test_keys_that_are_no_options():
  keys = {"A": "a grade", "a1": "", "option": "fast", "choices": None, "multiple_choice": True}
  assert read(question("Red.", [], **keys))[0].turns[1].text == "Red."


DATA = "data:image/png;base64," + "iVBOR" * 100
BAD = {
  "no media": (messages("<video>\nWhat?"), "has <video> but no medium"),
  "too few": (messages("<image><image>", images=["a"]), "has 1 images but 2 <image>"),
  "too many": (messages("<image>", images=["a"], videos=["b"]), "has 1 videos but 0 <video>"),
  "unplaced": (messages([{"type": "image", "image": "a"}], videos=["b"]), "has 1 more media than"),
  "data url": (
    messages([{"type": "image_url", "image_url": {"url": DATA}}]),
    "save what they hold",
  ),
  "data in a list": (messages("<image>", images=[DATA]), "which is not a path; save"),
  "address": (messages("<video>", videos=["https://x/a.mp4"]), "which is not fetched; save it as"),
  "bytes": (
    messages("<image>", images=[{"bytes": "aGk="}]),
    "has the bytes of a medium in its text",
  ),
  "nested parts": (
    messages([{"type": "text", "text": [text("Q")]}]),
    "which is not a text, image or",
  ),
  "audio": (messages([{"type": "audio", "audio": "a.wav"}]), "which is not a text, image or video"),
  "audios": (messages("Q", audios=["a.wav"]), 'has "audios": ["a.wav"], which is not read'),
  "tools": (messages("Q", tools="[]x"), 'has "tools"'),
  "null content": (messages(None), "neither a text nor a list of parts"),
  "null answer": (messages("Q", None), "neither a text nor a list of parts"),
  "empty answer": (messages("Q", " "), "has an empty answer"),
  "tool": ({"messages": [{"role": "tool", "content": "Q"}]}, 'has message 1 from "tool"'),
  "calls": (
    {"messages": [{"role": "assistant", "tool_calls": [1], "content": ""}]},
    "has message 1 with tool_calls",
  ),
  "role": ({"messages": [{"role": ["user"], "content": "Q"}]}, 'has message 1 from ["user"]'),
  "no messages": ({"messages": []}, "has messages [], which is not a list"),
  "text as messages": ({"messages": "[{}]"}, "which is not a list of messages"),
  "no answer": ({"messages": [{"role": "user", "content": "Q"}]}, "has no turn from assistant"),
  "loss": (
    {"messages": [{"role": "assistant", "content": "A", "loss": False}]},
    "with loss false, which is not read",
  ),
  "medium in an answer": (
    messages("Q", [{"type": "image", "image": "a"}]),
    "shows a medium in a turn of assistant",
  ),
  "times": (
    messages([{"type": "video", "video": "a", "video_start": 3, "video_end": 2}]),
    "which ends before it begins",
  ),
  "time of text": (
    messages([{"type": "video", "video": "a", "video_start": "3"}]),
    'has start "3"',
  ),
  "no frames": (messages([{"type": "video", "video": []}]), "which is not a video"),
  "rate": (messages([{"type": "video", "video": ["a"], "fps": 0}]), "1 frames at 0 a second"),
  "media under another key": (messages("Q", video_path="a"), 'has its media in "video_path": "a"'),
  "a pair's media": (dict(question="Q", answer="A", video_id="a"), 'its media in "video_id"'),
  "media twice": (messages("Q", image="a", images=["b"]), "has image and images; name all media"),
  "more media": (messages("<image>", images=["b"], Video="a"), 'has media and "Video": "a"'),
  "tags of others": (messages("<|video_pad|>Q", videos=["a"]), 'shows a place by "<|video_pad|>"'),
  "scenes": (messages([{"type": "video", "scenes": [3]}]), "which is not a list of scenes"),
  "unnamed": (messages([{"type": "video"}]), "which names no medium"),
  "surrogate": (messages("\udc80"), "has turn 1 that is not UTF-8"),
  "history": (
    {"query": "a", "response": "b", "history": [["a"]]},
    'has history ["a"], which is not a pair',
  ),
  "no option": (question("green", COLOURS), 'the answer "green", which names none, or several, of'),
  "a letter too far": (question("C", COLOURS), 'has the answer "C", which names none'),
  "a letter that is an option": (question("A", ["B", "A"]), 'has the answer "A", which names none'),
  "a number": (
    question(1, COLOURS),
    "has the answer 1, which names none, or several, of its 2 options; a number may count from 0 "
    "or from 1: write a letter, such as B, or the text",
  ),
  "a number as text": (question("0", COLOURS), "a number may count from 0 or from 1"),
  "no number of the list": (question(0, [1, 2, 3]), "has the answer 0, which names none"),
  "options as text": (question("A", "['red', 'blue']"), "which is not a list of texts"),
  "options twice": (question("A", COLOURS, choices=COLOURS), "has options and choices; list all"),
  "eleven options": (question("A", list("abcdefghijk")), "has 11 options; questions with 2 to 10"),
  "options apart": (question("A", A="red", B="blue"), 'has its options in "A", "B", which are not'),
  "numbered options": (question("a", a0="x", a1="y"), "none, or several, of its options a0 to a1"),
  "a number too far": (question(2, a0="x", a1="y"), "has the answer 2, which names none"),
  "a number and a text": (
    question(1, a0="1", a1="2"),
    "the answer 1, which names none",
  ),
  "a missing option": (
    question(1, a0="x", a1="y", a3="z"),
    "has further options than a2",
  ),
  "a letter beside turns": (
    messages("Which?", "C", videos=["a.mp4"], options=COLOURS),
    'has the answer "C", which names none, or several, of its 2 options',
  ),
  "named options": (question("A", option_a="red", option_b="blue"), 'in "option_a", "option_b"'),
  "another list": (
    question("A", answer_choices=COLOURS),
    'has its options in "answer_choices": ["red", "blue"], which is not read; list them in options',
  ),
  "grounding without a video": (
    {"name": "x", "query": "a", "relevant_windows": [[1, 2]]},
    'neither video, video_path nor vid; its keys are "name, query, relevant_windows"',
  ),
  "a medium in a text": (
    messages([{"type": "text", "text": "Q", "image": "a.png"}]),
    'has a text with "image": "a.png", which is not read; name media beside the turns',
  ),
  "a film": (
    {"info": {"video_path": "1.mp4"}, "global": [{"question": "Who?"}]},
    "without a question and an answer",
  ),
  "no question": ({"video": "a", "QA": []}, "has no question in QA"),
  "an empty question": ({"video": "a", "QA": [{"q": " ", "a": "b"}]}, "has question 1 without a"),
  "a question of a number": (
    {"video": "a", "QA": [{"q": "a", "a": 3}]},
    "without texts in q and a",
  ),
  "questions as texts": (
    {"video": "a", "QA": ["a"]},
    'has question 1 "a", which is not an object',
  ),
  "questions without an answer": ({"video": "a", "QA": [{"q": "a"}]}, "has an empty answer"),
  "a problem about sound": (
    {"problem": "a", "solution": "b", "path": "a.mp3", "data_type": "audio"},
    'has path "a.mp3" of data_type "audio", which is neither video nor image',
  ),
  "a solution of no option": (
    {"problem": "a", "solution": "<answer>C</answer>", "options": COLOURS, "video": "a"},
    'has the answer "C", which names none',
  ),
  "reversed": ({"video": "a", "caption": "a", "timestamp": [2, 1]}, "has an event from 2 to 1"),
  "no span": ({"video": "a", "caption": "a", "timestamp": 3}, "has times 3, which are not"),
  "three times": ({"video": "a", "query": "a", "span": [1, 2, 3]}, "which are not [start, end]"),
  "not a number": ({"video": "a", "query": "a", "span": [1, float("nan")]}, "has end NaN"),
  "beyond": (
    {"video": "a", "query": "a", "span": [1, 30], "duration": 20},
    "ends at 30 s in a video of 20 s",
  ),
  "no events": ({"video": "a", "events": []}, "has no events"),
  "an event": ({"video": "a", "events": [{"query": "a"}]}, "without a query and a span"),
  "dense": ({"video": "a", "sentences": ["a"], "timestamps": []}, "has 1 sentences but timestamps"),
  "part": ({"video": "a", "query": "a", "span": [1, 2], "start": 1}, "has start 1 beside"),
}


@pytest.mark.parametrize(
  ("answer", "options", "letter"),
  [
    (2, [1, 2, 3], "B"),
    (2.0, ["1", "2"], "B"),
    (0.5, [0.5, 2], "A"),
    (True, ["False", "True"], "B"),
  ],
)
def test_a_number_names_the_option_of_this_text(answer, options, letter):
  sample = llava.parse_record(question(answer, options), "m.json:1")
  assert sample.turns[-1].text == letter


def test_texts_beside_a_question_that_are_not_read_are_counted():
  report = llava.ManifestReport()
  for hint in ("A leaf is a part of a plant.", "", None, "Why"):  # The question repeats the last.
    record = dict(question="Why is it green?", answer="It lives.", hint=hint, context=" ")
    llava.parse_record(record, "m.json:1", "", report)
  assert report.unread == {"hint": 1}
  assert "1 records have the key hint" in report.unread_sentences()[0]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named(name):
  record, expected = BAD[name]
  assert expected in reason(record)
