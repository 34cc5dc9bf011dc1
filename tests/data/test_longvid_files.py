# SPDX-License-Identifier: Apache-2.0
"""filax data longvid: files, shards, splits, and the same bytes however it is run."""

from collections import Counter
import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import pytest

from data_pipelines.manifest.llava import read_manifest
from data_pipelines.manifest.reader import ManifestReport
from data_pipelines.sample import Scene
from data_pipelines.synthesis import splits
from data_pipelines.synthesis.longvid.factory import LongVidOptions, write_longvid
from data_pipelines.synthesis.longvid.question_files import QuestionRules
from data_pipelines.synthesis.longvid.rendering import LetterBalance, media_keys
from data_pipelines.synthesis.longvid.track_files import TrackInput
from data_pipelines.synthesis.sources.registry import find_source
from data_pipelines.synthesis.track import parse_track
from data_pipelines.text.choices import choice_lines
from filax.cli import data as data_command
from filax.evals import kit
from filax.evals.benchmarks import manifest
from filax.testing import tiny_checkpoint
from tests.data.longvid_tracks import cooking_track, in_parts, write_tracks_file

pytestmark = pytest.mark.slow

COUNT = 120
SOURCE = find_source("track_files")
RULES = QuestionRules(held_out=0.1)
OPTIONS = LongVidOptions(rules=RULES, shards=4)


@pytest.fixture(scope="module")
def tracks():
  plain = [cooking_track(number) for number in range(COUNT)]
  return [in_parts(track) if number % 3 == 0 else track for number, track in enumerate(plain)]


@pytest.fixture(scope="module")
def inputs(tracks, tmp_path_factory):
  path = write_tracks_file(tmp_path_factory.mktemp("tracks") / "tracks.jsonl", tracks)
  return [TrackInput("track_files", (str(path),), "", SOURCE.read_tracks, SOURCE.licence)]


@pytest.fixture(scope="module")
def written(inputs, tmp_path_factory):
  return write_longvid(inputs, tmp_path_factory.mktemp("set"), OPTIONS).out


def digests(folder):
  """File -> sha256, of everything but pictures."""
  found = {}
  for path in sorted(folder.glob("*.*")):
    found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def records(folder, pattern="train-*.jsonl"):
  lines = []
  for path in sorted(folder.glob(pattern)):
    lines += map(json.loads, path.read_text().splitlines())
  return lines


@pytest.mark.parametrize("processes", [2, 5])
def test_any_number_of_workers_gives_the_same_bytes(inputs, written, tmp_path, processes):
  write_longvid(inputs, tmp_path, OPTIONS, processes=processes)
  assert digests(tmp_path) == digests(written)


def test_a_hash_seed_does_not_matter(inputs, written, tmp_path):
  source = f"track_files={inputs[0].files[0]}"
  command = [sys.executable, "-m", "filax", "data", "longvid", "--source", source]
  command += ["--out", str(tmp_path / "out"), "--held-out", "10%", "--shards", "4"]
  subprocess.run(command, check=True, env=dict(os.environ, PYTHONHASHSEED="7"))
  assert digests(tmp_path / "out") == digests(written)


def test_the_recipe_has_the_digest_of_every_shard(written):
  recipe = json.loads((written / "recipe.json").read_text())
  found = digests(written)
  assert recipe["complete"]
  assert len(recipe["shards"]) == 9  # Tracks, training questions, the held-out set.
  for name, facts in recipe["shards"].items():
    assert facts["sha256"] == found[name]


def test_a_run_that_was_killed_goes_on(inputs, written, tmp_path):
  program = (
    "import os\n"
    "from data_pipelines.synthesis.longvid import factory\n"
    "factory._write_held_out = lambda *_: os._exit(9)\n"
    "from filax.cli.main import main\n"
    f"main(['data', 'longvid', '--source', 'track_files={inputs[0].files[0]}', '--out',"
    f" {str(tmp_path / 'out')!r}, '--held-out', '10%', '--shards', '4', '--workers', '1'])"
  )
  assert subprocess.run([sys.executable, "-c", program]).returncode == 9
  write_longvid(inputs, tmp_path / "out", OPTIONS)
  assert digests(tmp_path / "out") == digests(written)


def test_a_complete_output_is_left_alone(inputs, written):
  result = write_longvid(inputs, written, OPTIONS)
  assert result.was_complete
  assert result.figures["questions"] == len(records(written))


def test_another_recipe_is_refused(inputs, written):
  other = LongVidOptions(rules=QuestionRules(seed=1), shards=4)
  with pytest.raises(ValueError, match="another recipe"):
    write_longvid(inputs, written, other)


def test_training_reads_every_record(written):
  for path in sorted(written.glob("train-*.jsonl")):
    report = ManifestReport()
    samples = list(read_manifest(path, report=report))
    assert not report.bad
    assert len(samples) == report.samples > 0


def test_identifiers_are_unique(written):
  names = [record["id"] for record in records(written) + records(written, "held_out.jsonl")]
  assert len(names) == len(set(names))


def test_no_video_is_in_both_splits(written):
  train = {record["made"]["track"] for record in records(written)}
  held_out = {record["made"]["track"] for record in records(written, "held_out.jsonl")}
  assert held_out
  assert not train & held_out
  shares = {"held_out": RULES.held_out}
  assert {splits.split_of(key, shares, RULES.seed) for key in held_out} == {"held_out"}


def test_letters_are_balanced_in_every_shard(written):
  for path in written.glob("train-*.jsonl"):
    letters = Counter()
    for line in path.read_text().splitlines():
      record = json.loads(line)
      answer = record["conversations"][1]["value"]
      if len(answer) == 1:
        letters[record["kind"], answer] += 1
    for kind in {kind for kind, _ in letters}:
      counts = [letters[kind, letter] for letter in "ABCD"]
      assert max(counts) - min(counts) <= 1


def test_a_video_has_at_most_so_many_questions(written):
  counts = Counter(record["made"]["track"] for record in records(written))
  assert max(counts.values()) == RULES.per_video


def test_another_task_changes_no_question(inputs, written, tmp_path):
  rules = QuestionRules(tasks=("grounding",), per_video=0, held_out=0.1)
  write_longvid(inputs, tmp_path, LongVidOptions(rules=rules, shards=4))
  alone = {record["id"]: record for record in records(tmp_path)}
  for record in records(written):
    if record["kind"].startswith("grounding"):
      same = alone[record["id"]]
      assert same["conversations"][0]["value"].split("\n")[1] in str(record["conversations"])


def test_per_task_takes_exactly_so_many(inputs, tmp_path):
  write_longvid(inputs, tmp_path, LongVidOptions(rules=RULES, shards=4, per_task=20))
  counts = Counter(record["kind"] for record in records(tmp_path))
  assert set(counts.values()) == {20}


def test_excluded_videos_are_in_no_file(inputs, tracks, tmp_path):
  (tmp_path / "ids.txt").write_text("".join(f"{track.key}\n" for track in tracks[:50]))
  options = LongVidOptions(rules=RULES, shards=2, exclude=(str(tmp_path / "ids.txt"),))
  result = write_longvid(inputs, tmp_path / "out", options)
  keys = {record["key"] for record in records(tmp_path / "out", "tracks-*.jsonl")}
  assert keys == {track.key for track in tracks[50:]}
  assert result.figures["tracks"]["track_files: the video is in a list of --exclude-ids"] == 50


def test_a_video_in_two_sources_is_of_the_first(tracks, inputs, tmp_path):
  again = write_tracks_file(tmp_path / "again.jsonl", tracks[:30])
  second = TrackInput("second", (str(again),), "", SOURCE.read_tracks, SOURCE.licence)
  result = write_longvid([*inputs, second], tmp_path / "out", OPTIONS)
  assert result.figures["tracks"]["second: the video is in an earlier source"] == 30
  assert len(records(tmp_path / "out", "tracks-*.jsonl")) == COUNT


def test_a_track_that_comes_twice_is_asked_about_once(tracks, written, tmp_path):
  twice = write_tracks_file(tmp_path / "twice.jsonl", [*tracks, *tracks])
  source = TrackInput("track_files", (str(twice),), "", SOURCE.read_tracks, SOURCE.licence)
  result = write_longvid([source], tmp_path / "out", OPTIONS)
  assert result.figures["rejected"]["all: the track comes twice"] == COUNT
  ids = Counter(record["id"] for record in records(tmp_path / "out"))
  assert set(ids.values()) == {1}


def test_media_of_all_sources_are_below_one_root(tracks, tmp_path):
  inputs = []
  for number, name in enumerate(("one", "two")):
    path = write_tracks_file(tmp_path / f"{name}.jsonl", tracks[number::2])
    (tmp_path / "media" / name).mkdir(parents=True)
    for track in tracks[number::2]:
      (tmp_path / "media" / name / track.media[0].media).touch()
    inputs.append(
      TrackInput(
        name, (str(path),), str(tmp_path / "media" / name), SOURCE.read_tracks, SOURCE.licence
      )
    )
  result = write_longvid(inputs, tmp_path / "out", OPTIONS)
  assert result.root == str(tmp_path / "media")
  assert {record["video"].split("/")[0] for record in records(result.out)} == {"one", "two"}


def test_a_bad_line_is_reported_and_loses_nothing(tracks, tmp_path, capsys):
  path = write_tracks_file(tmp_path / "tracks.jsonl", tracks[:20])
  path.write_bytes(path.read_bytes() + b'{"key": 1}\nbroken\n')
  command = ["longvid", "--source", f"track_files={path}", "--out", str(tmp_path / "out")]
  assert data_command.main([*command, "--shards", "2", "--workers", "1"]) == 1
  assert "2 records were left out" in capsys.readouterr().out
  assert (tmp_path / "out" / "bad.txt").read_text().count("tracks.jsonl:2") == 2
  assert len(records(tmp_path / "out", "tracks-*.jsonl")) == 20


def test_only_tracks_are_written_when_asked(inputs, tracks, tmp_path):
  options = LongVidOptions(rules=RULES, shards=2, only_tracks=True)
  write_longvid(inputs, tmp_path, options)
  dumped = {record["key"]: parse_track(record) for record in records(tmp_path, "tracks-*.jsonl")}
  assert not list(tmp_path.glob("train-*"))
  assert dumped[tracks[5].key].events[3].label == tracks[5].events[3].label


def test_events_without_a_label_get_one(tmp_path, tracks):
  bare = vars(tracks[1]) | dict(events=())
  events = []
  for event in tracks[1].events:
    events.append(type(event)(event.t0, event.t1, f"The video shows a {event.label}."))
  track = type(tracks[1])(**(bare | dict(events=tuple(events))))
  path = write_tracks_file(tmp_path / "tracks.jsonl", [track])
  source = TrackInput("track_files", (str(path),), "", SOURCE.read_tracks, SOURCE.licence)
  write_longvid([source], tmp_path / "out", OPTIONS)
  written_events = records(tmp_path / "out", "tracks-*.jsonl")[0]["events"]
  assert [event["label"] for event in written_events] == [
    f"a {event.label}" for event in tracks[1].events
  ]


def examples(written):
  source = kit.Source(data=str(written / "held_out.jsonl"))
  listed = list(manifest.read_examples(source))
  assert not source.report.bad
  return listed


def test_the_held_out_set_is_read_by_evaluations_and_gold_answers_are_right(written):
  for example in examples(written):
    protocol = manifest.FILAX
    assert protocol.metric.score(example.answer, example).value == 1


def test_options_of_the_held_out_set_are_shown_once(written):
  chosen = [example for example in examples(written) if example.options]
  assert chosen
  for example in chosen:
    prompt = manifest.question_prompt(example, kit.ShownMedia(10.0, None))
    assert prompt.turns[-1].text.count("\nA. ") == 1


def test_training_and_evaluation_write_options_alike(written):
  record = next(r for r in records(written) if len(r["conversations"][1]["value"]) == 1)
  text = record["conversations"][0]["value"]
  _, first, rest = text.partition("\nA. ")
  options = [line.split(". ", 1)[1] for line in (first + rest).strip().split("\n")[:-1]]
  assert text.endswith(choice_lines(options))
  example = next(example for example in examples(written) if example.options)
  turn = kit.multiple_choice(example)
  assert turn.text == example.turn.text + choice_lines(example.options)


def test_held_out_media_are_an_exclusion_list(written):
  lines = (written / "held_out_media.jsonl").read_text().splitlines()
  media = [json.loads(line)["media"] for line in lines]
  assert sorted(media) == sorted({r["video"] for r in records(written, "held_out.jsonl")})


def test_figures_are_drawn(written):
  names = {path.name for path in (written / "figures").iterdir()}
  assert names == {"tasks.png", "letters.png", "durations.png"}


def test_blocks_of_letters_are_balanced():
  letters = LetterBalance(1, "shard")
  places = [letters.place("order", 4) for _ in range(10)]
  assert sorted(places[:4]) == sorted(places[4:8]) == [0, 1, 2, 3]


def test_a_part_of_joined_clips_is_their_scenes():
  timeline = (Scene("a.mp4", t1=10.0), Scene("b.mp4", t0=2.0, t1=12.0, at=10.0))
  keys = media_keys(timeline, 6.0, 15.0)
  assert keys["scenes"] == [
    dict(media="a.mp4", kind="video", t0=6.0, t1=10.0, at=0.0),
    dict(media="b.mp4", kind="video", t0=2.0, t1=7.0, at=4.0),
  ]


def test_a_part_of_a_cut_video_is_in_seconds_of_its_file():
  keys = media_keys((Scene("a.mp4", t0=100.0, t1=160.0),), 5.0, 20.0)
  assert keys == dict(video="a.mp4", start=105.0, end=120.0)


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["--source", "tracks"], "is not NAME=FILES"),
    (["--source", "track_files=nowhere.jsonl"], "there is no file 'nowhere.jsonl'"),
    (["--source", "track_files={file}", "--media", "other=."], "which no --source does"),
    (["--source", "track_files={file}", "--tasks", "order,chess"], "no task 'chess'"),
    (["--source", "track_files={file}", "--model", "m"], "are for --events openai or local"),
    (["--source", "track_files={file}", "--events", "openai"], "needs --model"),
    (["--source", "track_files={file}", "--events", "openai", "--model", "m"], "needs --url"),
    (
      ["--source", "track_files={file}", "--events", "openai", "--model", "m", "--url", "x"],
      "not an http:// or https://",
    ),
    (
      "--source track_files={file} --events openai --model m --url http://h "
      "--key-env NO_SUCH_VARIABLE",
      "NO_SUCH_VARIABLE is empty",
    ),
  ],
)
def test_wrong_options_are_named(arguments, words, inputs, tmp_path):
  words_of = arguments.split() if isinstance(arguments, str) else arguments
  command = [argument.format(file=inputs[0].files[0]) for argument in words_of]
  with pytest.raises(ValueError, match=words):
    data_command.main(["longvid", *command, "--out", str(tmp_path / "out")])


@pytest.mark.slow
def test_labels_of_a_checkpoint_are_cached(tracks, tmp_path):
  checkpoint = tiny_checkpoint.write_checkpoint(tmp_path / "tiny")
  bare = [dataclasses.replace(event, label="", place="") for event in tracks[1].events]
  track = dataclasses.replace(tracks[1], events=tuple(bare))
  path = write_tracks_file(tmp_path / "tracks.jsonl", [track])
  command = ["longvid", "--source", f"track_files={path}", "--shards", "2", "--events", "local"]
  command += ["--model", str(checkpoint), "--cache", str(tmp_path / "cache.sqlite")]
  assert data_command.main([*command, "--out", str(tmp_path / "one")]) == 0
  assert data_command.main([*command, "--out", str(tmp_path / "two"), "--cache-only"]) == 0
  assert digests(tmp_path / "one") == digests(tmp_path / "two")
