# SPDX-License-Identifier: Apache-2.0
"""Long videos from captioned clips: each rule of how they are made."""

import collections
import json
import math
import re

import longvideo_captions as captions
from longvideo_captions import caption_record, captioned, make, read_records, write_captions
import numpy as np
import pytest

from data_pipelines.manifest import llava
from data_pipelines.manifest.quarantine import read_quarantine
from data_pipelines.synthesis import caption_templates, splits
from data_pipelines.synthesis.clip_table import LengthRules
from data_pipelines.synthesis.durations import read_durations
from data_pipelines.synthesis.longvideo_plan import (
  Candidates,
  LengthLaw,
  VideoRules,
  plan_videos,
  unseen_scenes,
)
from data_pipelines.synthesis.shards import json_line
from data_pipelines.synthesis.sources.media_folder import MediaFolder

pytestmark = pytest.mark.slow

LINE = re.compile(r"(\d+) - (\d+) seconds: (.*)")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """(folder, result) of 150 clips."""
  folder = tmp_path_factory.mktemp("made")
  path = write_captions(folder, [caption_record(number) for number in range(150)])
  return folder / "out", make([path], folder / "out", reading=dict(held_out=0.2))


def reasons(result):
  """Line -> reason of the bad records."""
  return {bad.line: bad.reason for bad in result.bad}


def lengths_of(record):
  return [scene["t1"] - scene["t0"] for scene in record["scenes"]]


def answer(record):
  return record["conversations"][1]["value"]


def test_the_reader_of_manifests_takes_all_records(made):
  out, result = made
  for name in (*result.manifests, "held_out.jsonl"):
    report = llava.ManifestReport()
    samples = list(llava.read_manifest(out / name, report=report))
    assert samples and not report.bad and not report.prepended
    assert all(sample.kind == "dense_caption" for sample in samples)


def test_lines_are_those_of_their_records(made):
  out, result = made
  lines = (out / result.manifests[0]).read_bytes().splitlines(keepends=True)
  assert [json_line(json.loads(line)) for line in lines] == lines


def test_ids_are_unique_over_all_splits(made):
  records = read_records(made[0]) + read_records(made[0], "held_out.jsonl")
  assert len({record["id"] for record in records}) == len(records) > 20


# Rule 1: a clip is a caption with a duration.


def test_a_record_without_duration_is_left_out_with_its_line(tmp_path):
  records = [caption_record(number) for number in range(40)]
  del records[7]["duration"]
  result = make([write_captions(tmp_path, records)], tmp_path / "out", count=3)
  assert reasons(result) == {1: "has no duration; add --durations probe, or a file of durations"}


def test_durations_may_come_from_a_file(tmp_path):
  records = [caption_record(number) for number in range(40)]
  lines = []
  for record in records:
    media = f"{captions.SOURCE}/{record['video']}"
    lines.append(json.dumps(dict(media=media, duration=record.pop("duration"))))
  (tmp_path / "durations.jsonl").write_text("\n".join(lines))
  path = write_captions(tmp_path, records)
  lengths = LengthRules(durations=str(tmp_path / "durations.jsonl"))
  result = make([path], tmp_path / "out", count=3, lengths=lengths)
  assert not result.bad and len(read_records(tmp_path / "out")) == 3


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1", '"x"'])
def test_a_duration_that_is_no_time_is_named(seconds, tmp_path):
  (tmp_path / "durations.jsonl").write_text(f'{{"media": "a.mp4", "duration": {seconds}}}')
  for read in (lambda path: read_durations(path, ""), lambda path: MediaFolder("", [path])):
    with pytest.raises(ValueError, match=r"durations.jsonl:1: .*a\.mp4"):
      read(str(tmp_path / "durations.jsonl"))


def test_a_part_of_a_file_is_shown_as_its_part(tmp_path):
  records = [caption_record(n, duration=None, start=2.0004, end=22.5) for n in range(40)]
  make([write_captions(tmp_path, records)], tmp_path / "out", count=3)
  scene = read_records(tmp_path / "out")[0]["scenes"][1]
  assert (scene["t0"], scene["t1"], scene["at"]) == (2.001, 22.5, 20.499)


BAD = {
  "no list": (dict(conversations="x"), "which is not a list of turns"),
  "five turns": (dict(conversations=[{"from": "human", "value": "a"}] * 5), "a caption has one"),
  "no text": (captioned(1, None), "which is not a text"),
  "short": (captioned(1, "A man runs."), "a caption of 3 words"),
  "refusal": (captioned(1, "I'm sorry, but I can't assist with that request."), "an apology"),
  "not UTF-8": (captioned(1, "A \ud800 man runs to the door."), "not UTF-8"),
  "no video": (dict(video=None), "which is not a path"),
  "outside": (dict(video="../../etc/passwd"), "not a path inside a root"),
  "panda": (dict(video="00000/0000000_00003.mp4"), "identify no video"),
  "text": (dict(duration="12.5"), "which is not a number of seconds"),
  "nan": (dict(duration=math.nan), "which is not a number of seconds"),
  "zero": (dict(duration=0), "which is not a time"),
  "two frames": (dict(duration=0.08), "lasts less than 2 seconds"),
  "hours": (dict(duration=5000), "lasts more than 240 seconds"),
  "backwards": (dict(start=9.0, end=4.0, duration=None), "which is not a time"),
}


@pytest.fixture(scope="module")
def bad_records(tmp_path_factory):
  """(path, result, lines of bad.txt) of captions of which the first are bad, one a reason."""
  folder = tmp_path_factory.mktemp("bad_records")
  records = [caption_record(number) for number in range(60)]
  for record, (change, _) in zip(records, BAD.values(), strict=False):
    record |= change
  path = write_captions(folder, records, "a_cap.jsonl")
  result = make([path], folder / "out", count=3)
  return path, result, (folder / "out" / "bad.txt").read_text().splitlines()


def test_nothing_but_bad_records_is_left_out(bad_records):
  _, result, lines = bad_records
  assert list(reasons(result)) == list(range(1, len(BAD) + 1))
  assert len(lines) == len(BAD)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_left_out_with_its_reason(bad_records, name):
  path, result, lines = bad_records
  number = list(BAD).index(name) + 1
  assert BAD[name][1] in reasons(result)[number]
  assert lines[number - 1].startswith(f"{path}:{number}: ")


def test_clips_without_a_file_are_left_out(tmp_path):
  records = [caption_record(number) for number in range(40)]
  for record in records[1:]:
    path = tmp_path / "media" / captions.SOURCE / record["video"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  path = write_captions(tmp_path, records, "a_cap.jsonl")
  reading = dict(root=str(tmp_path / "media"))
  result = make([path], tmp_path / "out", count=3, reading=reading)
  assert reasons(result) == {1: "has its medium missing under --root"}


def test_a_wrong_root_is_an_error(tmp_path):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  with pytest.raises(ValueError, match=r"None of the 40 media is there, such as .*--media"):
    make([path], tmp_path / "out", reading=dict(root=str(tmp_path)))


def test_a_damaged_file_is_used_up_to_the_damage(tmp_path):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  with open(path, "r+") as file:
    file.truncate(len(file.read()) - 30)
  result = make([path], tmp_path / "out", count=3)
  assert len(result.bad) == 1 and "the rest cannot be read" in result.bad[0].reason


# Rule 2: the order of inputs does not matter, and repeated captions do not pile up.


def test_the_order_of_files_and_records_does_not_matter(tmp_path):
  records = [caption_record(number) for number in range(90)]
  first = [
    write_captions(tmp_path / "x", records[:50], "a_cap.json"),
    write_captions(tmp_path / "x", records[50:], "b_cap.json"),
  ]
  second = [write_captions(tmp_path / "y", records[::-1])]
  make(first[::-1], tmp_path / "one")
  make(second, tmp_path / "two")
  assert read_records(tmp_path / "one") == read_records(tmp_path / "two")


def test_a_caption_stands_under_three_clips_at_most(tmp_path):
  records = [caption_record(number) for number in range(60)]
  same = [captioned(number, "The service did not answer in time.") for number in range(60, 70)]
  result = make([write_captions(tmp_path, records + same)], tmp_path / "out")
  left_out = [bad for bad in result.bad if "3 other clips" in bad.reason]
  assert len(left_out) == len(result.bad) == 7


def test_a_clip_that_is_listed_twice_counts_once(tmp_path):
  records = [caption_record(number) for number in range(60)]
  result = make([write_captions(tmp_path, [*records, records[3]], "a.jsonl")], tmp_path / "out")
  assert list(reasons(result)) == [61] and "another record has" in reasons(result)[61]


# Rule 3: splits by source.


def test_no_source_is_in_two_splits(made):
  keys = []
  for pattern in ("train-*.jsonl", "held_out.jsonl"):
    scenes = [scene for record in read_records(made[0], pattern) for scene in record["scenes"]]
    keys.append({splits.source_key(scene["media"]) for scene in scenes})
  assert keys[0] and keys[1] and keys[0].isdisjoint(keys[1])


def test_held_out_media_can_be_named_in_exclude(made):
  held_out = read_quarantine(made[0] / "held_out_media.jsonl")
  for record in read_records(made[0], "held_out.jsonl"):
    assert held_out.issuperset(scene["media"] for scene in record["scenes"])


def test_videos_of_benchmarks_are_left_out(tmp_path):
  (tmp_path / "ids.txt").write_text("00007\nv_00008.mp4\n00009_1_2.mp4\nABCDEFGHIJK\n")
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)], "a.jsonl")
  result = make([path], tmp_path / "out", count=3, exclude=(str(tmp_path / "ids.txt"),))
  assert list(reasons(result)) == [8, 10] and result.figures["excluded"] == 2
  assert "exclusion lists" in reasons(result)[8]


# Rule 4: a deck a pass; no source twice in a video.


def test_no_source_is_twice_in_a_video(tmp_path):
  records = []
  for number in range(120):
    video = f"academic_source/youcook2/{number % 30:011d}/split_{number}.mp4"
    records.append(caption_record(number, video=video))
  make([write_captions(tmp_path, records)], tmp_path / "out")
  for record in read_records(tmp_path / "out"):
    keys = [splits.source_key(scene["media"]) for scene in record["scenes"]]
    assert len(set(keys)) == len(keys)


def test_clips_are_used_evenly():
  planned = plan_videos(candidates(900), 250, "train", VideoRules(passes=4))
  uses = np.bincount(planned.clips, minlength=900)
  assert uses.max() - uses.min() <= 1 and len(planned) == 250


def test_clips_are_used_as_often_as_allowed_and_no_more():
  planned = plan_videos(candidates(300), 1000, "train", VideoRules(passes=2))
  uses = np.bincount(planned.clips, minlength=300)
  assert uses.max() == 2 and len(planned) < 1000 and (uses == 2).mean() > 0.9
  assert planned.passes.tolist() == sorted(planned.passes) and set(planned.passes) == {1, 2}


# Rule 5: lengths.


def candidates(count, low=5, high=100):
  rng = np.random.default_rng(0)
  return Candidates(
    clip=np.arange(count, dtype=np.uint64),
    key=np.arange(count, dtype=np.uint64),
    milliseconds=rng.integers(low * 1000, high * 1000, count),
    words=rng.integers(50, 900, count),
  )


def test_lengths_have_the_mean_that_is_asked_for():
  clips = candidates(4000)
  planned = plan_videos(clips, 1000, "train", VideoRules(passes=4))
  seconds = np.add.reduceat(clips.milliseconds[planned.clips], planned.first[:-1]) / 1000
  assert len(planned) == 1000 and abs(seconds.mean() / 667 - 1) < 0.05
  assert seconds.min() >= 300 and seconds.max() <= 1800
  free = planned.targets > 400  # Shorter ones may need one scene more, for 300 s or 4 scenes.
  assert np.abs(seconds - planned.targets)[free].max() <= 50 + 1e-9  # Half of the longest clip.


@pytest.mark.parametrize("mean", [350, 666.9, 1050, 1500])
def test_the_law_of_lengths(mean):
  law = LengthLaw(300, 1800, mean)
  lengths = [law.length((number + 0.5) / 2000) for number in range(2000)]
  assert abs(np.mean(lengths) - mean) < 1 and lengths == sorted(lengths)
  assert law.length(0.0) == 300 and 1700 < law.length(1 - 2**-53) <= 1800 + 1e-6


def test_the_rate_of_the_published_mean():
  assert abs(1 / LengthLaw(300, 1800, 666.9).rate - 404.6) < 0.1


@pytest.mark.parametrize("mean", [300, 200, 1800, 305])
def test_a_mean_outside_of_the_limits_is_an_error(mean):
  with pytest.raises(ValueError, match="--mean"):
    LengthLaw(300, 1800, mean)


def test_a_video_has_the_fewest_scenes_that_are_asked_for():
  planned = plan_videos(candidates(2000, 100, 180), 200, "train", VideoRules(min_scenes=5))
  assert np.diff(planned.first).min() == 5


def test_too_few_clips_are_an_error(tmp_path):
  path = write_captions(tmp_path, [caption_record(number) for number in range(3)])
  with pytest.raises(ValueError, match=r"3 usable clips .* make no video of 60 seconds"):
    make([path], tmp_path / "out")


def test_a_video_closes_before_it_has_too_many_words():
  clips = candidates(3000)
  rules = VideoRules(max_words=4000, passes=4)
  planned = plan_videos(clips, 200, "train", rules)
  words = np.add.reduceat(clips.words[planned.clips], planned.first[:-1])
  assert len(planned) == 200 and words.max() <= 4000


@pytest.mark.parametrize("frames", [16, 32])
def test_uniform_frames_see_every_scene_that_is_long_enough(frames):
  clips = candidates(3000)
  planned = plan_videos(clips, 150, "train", VideoRules(min_scene_share=frames, passes=4))
  assert len(planned) == 150
  for number in range(150):
    lengths = clips.milliseconds[planned.scenes(number)] / 1000
    total = lengths.sum()
    times = np.linspace(0, total, frames)
    owners = np.searchsorted(np.cumsum(lengths), times[:-1], side="right")
    assert set(owners) | {len(lengths) - 1} == set(range(len(lengths)))
    assert not unseen_scenes(np.cumsum(lengths) - lengths, lengths, total, frames).any()


def test_scenes_between_two_frames_are_counted():
  starts, lengths = np.array([0.0, 4.0, 6.0, 9.5]), np.array([4.0, 2.0, 3.5, 0.5])
  assert unseen_scenes(starts, lengths, np.full(4, 10.0), 3).tolist() == [False, False, True, False]


# Rules 6 and 7: times.


def test_scenes_follow_one_another_in_whole_milliseconds(made):
  for record in read_records(made[0]):
    at = 0
    for scene in record["scenes"]:
      assert scene["at"] == at / 1000 and scene["t0"] == 0
      at += round(scene["t1"] * 1000)
      assert str(scene["t1"])[-4:] == ".456"  # 10.4567 rounded down.


def test_caption_lines_share_their_borders(made):
  for record in read_records(made[0]):
    lines = [LINE.fullmatch(line) for line in answer(record).split("\n")]
    assert len(lines) == len(record["scenes"])
    ends = np.cumsum(lengths_of(record))
    assert [int(line[2]) for line in lines] == [math.floor(end + 0.5) for end in ends]
    assert [line[1] for line in lines] == ["0", *[line[2] for line in lines[:-1]]]


def test_a_caption_has_no_line_breaks_of_its_own(made):
  text = LINE.match(answer(read_records(made[0])[0]))[3]
  assert re.fullmatch(r'The video begins with person "\d+". They run é 跑, far.', text)


@pytest.mark.parametrize(
  ("form", "start", "end", "line"),
  [
    ("seconds", 0, 41, "0 - 41 seconds: A."),
    ("clock", 59, 3599, "[00:59 - 59:59] A."),
    ("clock", 3599, 3661, "[59:59 - 1:01:01] A."),
    ("plain", 0, 41, "A."),
  ],
)
def test_forms_of_times(form, start, end, line):
  assert caption_templates.scene_line(form, start, end, "A.") == line


def test_captions_without_times(tmp_path):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  make([path], tmp_path / "out", count=3, captions="plain")
  record = read_records(tmp_path / "out")[0]
  assert answer(record).startswith("The video begins") and "time" not in str(
    record["conversations"][0]
  )


# Rule 8: openers.


@pytest.mark.parametrize(
  ("text", "changed"),
  [
    ("The video begins with a man.", "This scene begins with a man."),
    ("A dog. The video concludes here.", "A dog. This scene concludes here."),
    ("In the video, a man runs.", "In this scene, a man runs."),
    ("At the end of the video he sits.", "At the end of this scene he sits."),
    ("In the video game he runs.", "In the video game he runs."),
    ("The video camera is black.", "The video camera is black."),
  ],
)
def test_openers_speak_of_the_scene(text, changed):
  assert caption_templates.name_scenes(text) == changed


def test_openers_are_kept_unless_asked(tmp_path, made):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  make([path], tmp_path / "out", count=3, reading=dict(openers="scene"))
  assert ": The video begins" in answer(read_records(made[0])[0])
  assert ": This scene begins" in answer(read_records(tmp_path / "out")[0])


# Rule 9: questions.


def test_questions_are_drawn_and_end_like_sentences(made):
  questions = collections.Counter()
  for record in read_records(made[0]):
    question = record["conversations"][0]["value"]
    assert question.startswith("<image>\n") and question[-1] in ".?"
    questions[question.removeprefix("<image>\n")] += 1
  assert len(questions) > 4 and set(questions) <= set(caption_templates.TIMED_QUESTIONS)


# Rule 10: provenance.


def test_a_record_names_its_clips(made):
  record = read_records(made[0])[0]
  numbers = re.findall(r'person "(\d+)"', answer(record))
  assert record["made"]["clips"] == [f"clip-{number}" for number in numbers]
  media = [f"{captions.SOURCE}/academic_source/Charades/{int(n):05d}.mp4" for n in numbers]
  assert [scene["media"] for scene in record["scenes"]] == media
  assert record["made"]["pass"] == 1 and 60 <= record["made"]["target"] <= 240


# The whole.


def test_any_number_of_processes_gives_the_same_bytes(tmp_path):
  records = [caption_record(number) for number in range(90)]
  paths = [
    write_captions(tmp_path, records[:50], "a_cap.json"),
    write_captions(tmp_path, records[50:], "b_cap.json"),
  ]
  make(paths, tmp_path / "one")
  make(paths, tmp_path / "two", processes=2)
  one = captions.content(tmp_path / "one")
  assert one == captions.content(tmp_path / "two")
  assert "figures/durations.png" in one and not any(".tmp" in name for name in one)


def test_another_seed_makes_other_videos(tmp_path, made):
  path = write_captions(tmp_path, [caption_record(number) for number in range(150)])
  make([path], tmp_path / "out", seed=7, reading=dict(held_out=0.2))
  assert read_records(tmp_path / "out") != read_records(made[0])


def test_what_is_complete_is_left_alone(tmp_path):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  make([path], tmp_path / "out", count=3)
  before = captions.content(tmp_path / "out")
  assert make([path], tmp_path / "out", count=3).was_complete
  assert captions.content(tmp_path / "out") == before


def test_changed_captions_are_another_recipe(tmp_path):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  make([path], tmp_path / "out", count=3)
  write_captions(tmp_path, [caption_record(number) for number in range(41)])
  with pytest.raises(ValueError, match=r"inputs is .* there and .* here"):
    make([path], tmp_path / "out", count=3)


def test_figures_are_those_of_the_records(made):
  out, result = made
  figures = json.loads((out / "figures" / "figures.json").read_text())
  assert figures == result.figures == json.loads((out / "recipe.json").read_text())["figures"]
  records = read_records(out)
  seconds = [sum(lengths_of(record)) for record in records]
  ours = figures["table"]["ours"]
  assert ours["captions"] == len(records) and abs(ours["seconds"] - np.mean(seconds)) < 0.1
  words = [len(re.sub(r"\d+ - \d+ seconds:", "", answer(record)).split()) for record in records]
  assert abs(ours["words"] - np.mean(words)) < 0.1
  assert figures["table"]["LongVideo (FiLA-Video)"]["words"] == 4967
  assert {path.name for path in (out / "figures").glob("*.png")} == {
    *("durations.png", "words.png", "scenes.png", "uses.png", "without_a_frame.png"),
  }


@pytest.mark.parametrize(
  ("options", "reason"),
  [
    (dict(min_scene_share=1), "--min-scene-share 1"),
    (dict(min_scene_share=3), "cannot show --min-scenes 4"),
    (dict(reading=dict(media="{source}/{video}")), "cannot be filled in"),
    (dict(reading=dict(media="{video.upper}")), "cannot be filled in"),
    (dict(reading=dict(media="{video[0]}")), "cannot be filled in"),
    (dict(reading=dict(media="{0}/{video}")), "cannot be filled in"),
    (dict(reading=dict(media="{video!r:9}")), "cannot be filled in"),
    (dict(reading=dict(media="{video}}")), "cannot be filled in"),
    (dict(captions="minutes"), "captions='minutes'"),
    (dict(mean=20.0), "--mean 20"),
    (dict(exclude=("nowhere.txt",)), "nowhere.txt cannot be read"),
  ],
)
def test_wrong_options_are_errors(tmp_path, options, reason):
  path = write_captions(tmp_path, [caption_record(number) for number in range(40)])
  with pytest.raises(ValueError, match=reason):
    make([path], tmp_path / "out", **options)
