# SPDX-License-Identifier: Apache-2.0
"""MVBench: reading its files, where its videos are, and its prompts byte for byte."""

import collections
import os
import pathlib

import numpy as np
import pytest

from data_pipelines.media import frames
from filax.evals.benchmarks import mvbench
from filax.evals.kit import BadAnnotation, MissingAnnotation, ShownMedia, Source
from filax.evals.registry import find_benchmark
from filax.testing import benchmark_files, clips

BENCHMARK = find_benchmark("mvbench")
SHOWN = ShownMedia(4.0, np.zeros(1))
ROW = benchmark_files.mvbench_row()
BOUNDED = benchmark_files.mvbench_row(start=1.5, end=17.1)
EPISODE = benchmark_files.mvbench_row(
  video="castle_s07e04_seg02_clip_14", start=1.0, end=2.0, fps=3
)
QUESTION = "What did the person do after lifting the box?"
LINES = "(A) Sat down.\n(B) Opened the door.\n(C) Left."


def read(folder, **options):
  source = Source(str(folder), **options)
  return list(BENCHMARK.read_examples(source)), source


def read_task(folder, task, row):
  """The only question of a task."""
  benchmark_files.write_mvbench(folder, {task: [row]})
  examples, source = read(folder, allow_missing=True)
  assert not source.report.bad
  (example,) = examples
  return example


def scene(folder, task, row, *files):
  """The scene of a question where these files exist."""
  for file in files:
    path = pathlib.Path(folder, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  ((found,),) = read_task(folder, task, row).media
  return os.path.relpath(found.media, folder), found.t0, found.t1


def test_all_tasks_are_read_in_order(tmp_path):
  benchmark_files.write_mvbench(tmp_path, {task: [BOUNDED] * 2 for task in mvbench.TASKS})
  examples, source = read(tmp_path)
  assert [example.id for example in examples[:3]] == [
    "action_sequence/0",
    "action_sequence/1",
    "action_prediction/0",
  ]
  tasks = collections.Counter(example.fields["task"] for example in examples)
  assert len(tasks) == 20 and set(tasks.values()) == {2}
  assert len(source.annotations) == 20


def test_the_right_answer_is_the_letter_of_its_candidate(tmp_path):
  example = read_task(tmp_path, "action_antonym", ROW)
  assert example.answer == "B" and example.options == tuple(ROW["candidates"])


def test_a_question_may_have_one_option(tmp_path):
  row = benchmark_files.mvbench_row(candidates=["Opened the door."])
  assert read_task(tmp_path, "counterfactual_inference", row).answer == "A"


@pytest.mark.parametrize(
  "task, video, path",
  [
    ("action_antonym", "1.webm", "video/ssv2_video/1.webm"),
    ("action_antonym", "1.webm", "ssv2_video/1.webm"),
    ("action_antonym", "1.webm", "ssv2-video/1.webm"),
    ("action_antonym", "1.webm", "ssv2_video_mp4/1.mp4"),
    ("fine_grained_pose", "S010_rgb.avi", "video/nturgbd/S010_rgb.avi"),
    ("fine_grained_pose", "S010_rgb.avi", "nturgbd_convert/S010_rgb.mp4"),
    ("egocentric_navigation", "left/4_frame5.mp4", "video/vlnqa/left/4_frame5.mp4"),
    ("moving_count", "v.mp4", "video/clevrer/video_validation/v.mp4"),
    ("moving_count", "v.mp4", "video/data0613/clevrer/video_validation/v.mp4"),
    ("state_change", "v.mp4", "perception/videos/v.mp4"),
    ("unexpected_action", "test_humor/v.mp4", "funqa-test/test/test_humor/v.mp4"),
    ("scene_transition", "v.mp4", "scene-qa/video/v.mp4"),
    ("fine_grained_action", "a/b.mp4", "video/Moments_in_Time_Raw/videos/a/b.mp4"),
  ],
)
def test_videos_are_found_in_the_folders_of_each_harness(tmp_path, task, video, path):
  row = benchmark_files.mvbench_row(video=video)
  assert scene(tmp_path, task, row, path) == (path, 0.0, None)


@pytest.mark.parametrize("task", ["action_sequence", "action_prediction", "object_interaction"])
def test_records_with_bounds_show_their_part(tmp_path, task):
  path = "video/star/Charades_v1_480/ZX9.mp4"
  assert scene(tmp_path, task, BOUNDED, path) == (path, 1.5, 17.1)


@pytest.mark.parametrize(
  "task, path",
  [
    ("action_sequence", "star/Charades_segment/ZX9_1.5_17.1.mp4"),
    ("action_localization", "video/sta/sta_video_segment/ZX9_1.5_17.1.mp4"),
    ("action_sequence", "star/Charades_segment/ZX9.mp4"),
  ],
)
def test_a_clip_that_is_cut_already_is_shown_whole(tmp_path, task, path):
  assert scene(tmp_path, task, BOUNDED, path) == (path, 0.0, None)


def test_the_whole_video_is_preferred_to_the_cut_one(tmp_path):
  whole = "video/star/Charades_v1_480/ZX9.mp4"
  cut = "star/Charades_segment/ZX9_1.5_17.1.mp4"
  assert scene(tmp_path, "action_sequence", BOUNDED, whole, cut) == (whole, 1.5, 17.1)


def test_a_missing_video_has_the_publishers_path(tmp_path):
  path = "video/star/Charades_v1_480/ZX9.mp4"
  assert scene(tmp_path, "action_sequence", BOUNDED) == (path, 1.5, 17.1)


def test_an_episode_is_shown_at_three_pictures_a_second(tmp_path):
  example = read_task(tmp_path, "episodic_reasoning", EPISODE)
  folder = tmp_path / "video/tvqa/frames_fps3_hq/castle_s07e04_seg02_clip_14"
  for number in range(1, 13):
    clips.write_picture(folder / f"{number:05d}.jpg", number)
  (timeline,) = example.media
  pictures, _ = frames.read_timeline(timeline, [0.0, 0.4, 0.9], 32)
  # Second 1 of a folder that begins with number 1 is number 4.
  assert clips.read_numbers(pictures) == [4, 5, 6]


def test_bounds_beyond_the_video_end_with_it(tmp_path):
  row = benchmark_files.mvbench_row(start=0.0, end=99.0)
  example = read_task(tmp_path, "action_sequence", row)
  clips.write_video(tmp_path / "video/star/Charades_v1_480/ZX9.mp4", 20, 10)
  (timeline,) = example.media
  pictures, _ = frames.read_timeline(timeline, [0.0, 98.0], 32)
  assert clips.read_numbers(pictures) == [0, 19]


def test_a_missing_task_is_named_and_the_others_are_read(tmp_path):
  benchmark_files.write_mvbench(tmp_path, dict(action_antonym=[ROW]))
  with pytest.raises(MissingAnnotation, match=r"action_sequence\.json is missing.*OpenGVLab/MVB"):
    read(tmp_path)
  examples, source = read(tmp_path, allow_missing=True)
  assert len(examples) == 1 and len(source.missing) == 19
  named = [sentence for sentence in source.missing if mvbench.PUBLISHER in sentence]
  assert named == source.missing[:1], "The publisher is named once."


def test_another_version_is_named_by_its_fields(tmp_path):
  benchmark_files.write_mvbench(tmp_path, dict(action_sequence=[ROW]))
  with pytest.raises(BadAnnotation, match=r"has no start, end: .* are video, question, candid"):
    read(tmp_path)


@pytest.mark.parametrize("content", ['[{"video": "a.mp4", ', '{"video": "a.mp4"}', "[1]"])
def test_another_content_is_a_sentence(tmp_path, content):
  benchmark_files.write_mvbench(tmp_path, dict(action_sequence=[BOUNDED]))
  (tmp_path / "json/action_sequence.json").write_text(content)
  with pytest.raises(BadAnnotation, match=r"action_sequence\.json is not a (whole|list)"):
    read(tmp_path)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(answer="Slept."), "none of its candidates"),
    (dict(end=1.0), "not after its start"),
    (dict(start="1.5"), "not a number"),
    (dict(candidates="none"), "not a list of texts"),
  ],
)
def test_a_bad_record_is_listed(tmp_path, changes, message):
  rows = [BOUNDED, benchmark_files.mvbench_row(**{**BOUNDED, **changes})]
  benchmark_files.write_mvbench(tmp_path, dict(action_sequence=rows))
  examples, source = read(tmp_path, allow_missing=True)
  (bad,) = source.report.bad
  assert len(examples) == 1 and bad.line == 2 and message in bad.reason


@pytest.mark.parametrize(
  "protocol, text",
  [
    ("lmms-eval", f"Question:{QUESTION}\nOption:\n{LINES}\nOnly give the best option.\n"),
    ("vcf", f"Question: {QUESTION}\nOption:\n{LINES}\n\nOnly give the best option."),
  ],
)
def test_prompts(tmp_path, protocol, text):
  prompt = BENCHMARK.protocols[protocol].prompt(read_task(tmp_path, "action_antonym", ROW), SHOWN)
  (turn,) = prompt.turns
  assert (turn.role, turn.parts, prompt.answer_start) == ("user", (0, f"\n{text}"), "")


def test_the_authors_prompt_begins_the_answer(tmp_path):
  example = read_task(tmp_path, "action_antonym", ROW)
  system, user = BENCHMARK.protocols["official"].prompt(example, SHOWN).turns
  instruction = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail "
    "and movement of objects, and the action and pose of persons. Based on your observations, "
    "select the best option that accurately addresses the question.\n"
  )
  assert (system.role, system.parts) == ("system", (instruction,))
  question = f"Question: {QUESTION}\nOptions:\n{LINES}\nOnly give the best option."
  assert user.parts == (0, f"\n{instruction}{question}")
  assert BENCHMARK.protocols["official"].prompt(example, SHOWN).answer_start == "Best option:("


def test_empty_answers_leave_the_denominator_of_the_harnesses(tmp_path):
  example = read_task(tmp_path, "action_antonym", ROW)
  shares = {}
  for name, protocol in BENCHMARK.protocols.items():
    scores = [protocol.metric.score(text, example) for text in ("B) Opened", "")]
    shares[name] = protocol.metric.average(scores)["accuracy"]
  # The authors' rule takes an empty answer for a right one.
  assert shares == {"lmms-eval": 1.0, "vcf": 1.0, "official": 1.0}


OPTIONS = dict(
  action_antonym={3: 200},
  episodic_reasoning={5: 200},
  object_existence={3: 200},
  object_shuffle={3: 200},
  action_count={3: 200},
  character_order={3: 200},
  state_change={3: 200},
  moving_attribute={2: 65, 3: 69, 4: 66},
  counterfactual_inference={1: 5, 2: 53, 3: 32, 4: 110},
)


@pytest.mark.skipif("FILAX_TEST_DATA" not in os.environ, reason="FILAX_TEST_DATA is not set")
def test_the_published_files():
  examples, source = read(pathlib.Path(os.environ["FILAX_TEST_DATA"], "annotations/mvbench"))
  assert len(examples) == 4000 and not source.report.bad and not source.missing
  assert len({example.id for example in examples}) == 4000
  options = collections.defaultdict(collections.Counter)
  for example in examples:
    options[example.fields["task"]][len(example.options)] += 1
    assert example.options["ABCDE".index(example.answer)] == example.fields["answer"]
  assert len(options) == 20
  for task, counts in options.items():
    assert counts == OPTIONS.get(task, {4: 200}), task
