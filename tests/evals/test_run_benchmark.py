# SPDX-License-Identifier: Apache-2.0
"""A benchmark from its files to result.json, on a tiny model and invented questions."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import small_benchmark as small

import filax
from filax.cli.main import main
from filax.evals import answering, evaluation, hashes, reading
from filax.evals.kit import MissingAnnotation
from filax.evals.options import EvaluationOptions
from filax.evals.result import NothingScored
from filax.infer import encode, encode_long
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

FILE = str(pathlib.Path(small.__file__))
SMALL = f"{FILE}:small"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def session(run):
  return filax.load(run)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """A folder with the folder of the benchmark in it."""
  folder = tmp_path_factory.mktemp("data")
  small.write(folder / "small")
  return folder


def ask(session, name=SMALL, **options):
  return filax.evaluate(session, name, **(dict(progress=False, batch=4) | options))


@pytest.fixture(scope="module")
def report(session, data, tmp_path_factory):
  return ask(session, data=data, protocol="official", out=tmp_path_factory.mktemp("out"))


def test_a_complete_run_under_a_named_protocol_is_comparable(report):
  assert report["reasons"] == [] and report["comparable"]
  assert (report["questions"], report["total"], report["videos"]) == (6, 6, 3)
  assert (report["protocol"], report["protocol_version"]) == ("official", "1")
  assert report["finished"] and report["schema"] == 1


def test_settings_and_hashes_stand_beside_the_score(report, run, data):
  settings = report["settings"]
  assert settings["max_new_tokens"] == 3 and settings["temperature"] == 0
  assert settings["selector"] == "kmeans" and settings["dropout"] == "off"
  assert settings["tokens_per_frame"] > 0 and settings["decoder"].startswith("PyAV")
  assert settings["dtype"] == "float32" and settings["mesh"] == {}
  ((path, digest),) = report["hashes"]["annotations"].items()
  assert pathlib.Path(path) == data / "small" / "questions.json" and len(digest) == 64
  assert len(report["hashes"]["checkpoint"]) == 64 and report["checkpoint"] == run


def test_the_hash_is_of_the_step_that_was_loaded(session, run, data):
  """Its run may write newer steps meanwhile."""
  loaded = pathlib.Path(run) / "checkpoints" / "0"
  assert session.processor.step == str(loaded)
  newer = loaded.with_name("1")
  shutil.copytree(loaded, newer)
  (newer / "data" / "metadata").write_text("{}")
  options = EvaluationOptions(data=data, protocol="official")
  prepared = evaluation.prepare(session, SMALL, options)
  shutil.rmtree(newer)
  assert prepared.hashes["checkpoint"] == hashes.checkpoint_hash(loaded)


def test_the_first_prompt_is_in_the_result(report):
  assert "visual tokens>" in report["first_prompt"] and "on red 0" in report["first_prompt"]


def test_a_list_counts_in_each_of_its_groups(report):
  groups = report["by"]["skills"]
  assert {name: group["questions"] for name, group in groups.items()} == dict(counting=3, seeing=6)


def test_macro_and_micro_stand_beside_each_other(report):
  scores = report["scores"]
  groups = report["by"]["task"]
  assert scores["micro"] == scores["accuracy"] == report["accuracy"]
  assert scores["macro"] == pytest.approx(np.mean([group["accuracy"] for group in groups.values()]))


def test_the_protocol_decides_the_headline_and_its_note_names_the_frames(session, data):
  report = ask(session, data=data, protocol="lmms-eval")
  assert report["scores"]["accuracy"] == report["scores"]["macro"]
  assert report["note"] == "Silent. Frames of the published numbers: the first 4."


def test_the_default_protocol_is_that_of_the_family(session, data, tmp_path):
  assert evaluation.protocol_family(session) == "lmms-eval"
  assert ask(session, data=data, limit=1)["protocol"] == "lmms-eval"
  from filax.configs import vcf_toy

  flash = tiny_checkpoint.write_checkpoint(tmp_path / "vcf", config_file=vcf_toy)
  assert evaluation.protocol_family(filax.load(flash)) == "vcf"


def test_the_answer_is_started_in_the_prompt(session, data, monkeypatch):
  prompts = []
  original = answering.generate
  monkeypatch.setattr(
    answering,
    "generate",
    lambda *args, **kwargs: prompts.append(args[2]) or original(*args, **kwargs),
  )
  report = ask(session, data=data, protocol="lmms-eval", limit=1)
  assert report["first_prompt"].endswith("directly.<|im_end|>Best option at 2:(")
  encoded = session.processor.tokenizer.encode("Best option at 2:(")
  assert prompts[0][0][-len(encoded) :] == encoded


def reasons(report):
  assert not report["comparable"]
  return " ".join(report["reasons"])


def test_what_is_missing_is_said_beside_the_score(session, data):
  report = ask(session, data=data, protocol="filax", limit=2, blind=True, max_new_tokens=2)
  text = reasons(report)
  assert "protocol filax" in text and "--limit" in text and "grey" in text
  assert "2 of 6 questions were answered" in text
  official = ask(session, data=data, protocol="official", limit=2, max_new_tokens=2)
  assert "2 new tokens at most, not the protocol's 3" in reasons(official)


def test_text_that_may_not_be_shown_is_not_kept(session, data, tmp_path):
  folder = small.write(tmp_path / "silent", [small.record(0, answer=""), small.record(1)], 1)
  report = ask(session, f"{FILE}:silent", data=folder, out=tmp_path / "out")
  assert report["first_prompt"] == "" and {row["question"] for row in report["answers"]} == {""}
  assert not report["shows_text"]


def test_a_submission_is_written_and_unknown_answers_do_not_count(session, tmp_path):
  folder = small.write(tmp_path / "silent", [small.record(0, answer=""), small.record(1)], 1)
  report = ask(session, f"{FILE}:silent", data=folder, protocol="failing", out=tmp_path / "out")
  assert list(report["answers"][0]) and report["unscored"] == 1


def test_bad_questions_and_verdicts_are_listed_and_skipped(session, data):
  report = ask(session, data=data, protocol="failing")
  assert (report["questions"], report["skipped"]) == (3, 3)
  listed = {row["id"]: row["reason"] for row in report["skipped_questions"]}
  assert listed == dict(
    q1="KeyError: 'missing'", q3="KeyError: 'missing'", q2="RuntimeError: no verdict"
  )
  assert "3 questions were skipped." in report["reasons"]


def test_missing_videos_are_counted_and_the_first_are_named(session, tmp_path):
  folder = pathlib.Path(small.write(tmp_path / "small", videos=1))
  with pytest.raises(ValueError) as caught:
    ask(session, data=folder)
  (sentence,) = str(caught.value).splitlines()
  assert "2 media of 6 questions are missing" in sentence and "--allow-missing" in sentence
  assert str(folder / "1.mp4") in sentence and str(folder / "2.mp4") in sentence
  (folder / "videos.tar.part.aa").touch()
  with pytest.raises(ValueError, match=r"in archives: cd .*; cat videos\.tar\?\* \| tar -x"):
    ask(session, data=folder)
  report = ask(session, data=folder, allow_missing=True, protocol="official")
  assert (report["missing"], report["questions"], report["skipped"]) == (2, 2, 4)
  assert str(folder / "2.mp4") in report["bad_media"]
  assert "more.json is missing" in reasons(report) and "2 of 6" in reasons(report)


def test_missing_files_of_prompts_stop_a_run_before_it_begins(session, data, tmp_path, monkeypatch):
  spoken = tmp_path / "spoken.txt"
  official = dataclasses.replace(small.PROTOCOLS["official"], files=lambda example: (str(spoken),))
  benchmark = small.benchmark(protocols=dict(official=official))
  monkeypatch.setattr("filax.evals.evaluation.find_benchmark", lambda name: benchmark)
  with pytest.raises(ValueError, match=rf"1 media of 6 questions are missing.*{spoken}"):
    ask(session, data=data, protocol="official")
  spoken.touch()
  assert ask(session, data=data, protocol="official")["questions"] == 6


def test_a_missing_file_names_its_publisher(session, tmp_path):
  with pytest.raises(
    MissingAnnotation, match=r"questions\.json is missing\. Its invented publisher"
  ):
    ask(session, data=tmp_path)


@pytest.mark.parametrize(
  ("name", "options", "sentence"),
  [
    (SMALL, dict(data="/no/folder"), "There is no folder /no/folder. Set --data"),
    (SMALL, dict(), "Where are the files of .*:small"),
    (SMALL, dict(protocol="vcf"), "--protocol='vcf' is none of this benchmark's. Set it to off"),
    (f"{FILE}:taken", dict(), "column 'answer' of Benchmark.by"),
    (f"{FILE}:nothing", dict(), "There is no benchmark .*small"),
    ("nothing", dict(), "no manifest nothing"),
    (SMALL, dict(process=(4, 4)), "--process=4/4"),
  ],
)
def test_bad_input_is_one_sentence(session, data, name, options, sentence):
  if "data" not in options and "Where" not in sentence:
    options = options | dict(data=data / "small")
  with pytest.raises(ValueError, match=sentence):
    ask(session, name, **options)


def test_no_questions_is_one_sentence(session, tmp_path):
  with pytest.raises(ValueError, match="holds no question that can be asked"):
    ask(session, data=small.write(tmp_path / "small", []))


def test_a_clip_that_ends_beyond_its_video_is_shown_to_its_end(session, tmp_path, monkeypatch):
  shown = []
  original = encode.start_video
  monkeypatch.setattr(encode, "start_video", lambda *args: shown.append(args[1]) or original(*args))
  folder = small.write(tmp_path / "small", [small.record(0, start=1.0, end=99.0)])
  ask(session, data=folder)
  assert shown[0].duration == pytest.approx(1.0)
  assert clips.read_numbers(shown[0].frames)[0] == 10


def test_a_folder_of_pictures_has_its_rate_and_its_clips(session, tmp_path, monkeypatch):
  folder = pathlib.Path(
    small.write(tmp_path / "small", [small.record(0, video="e@3fps", start=1.0, end=3.0)])
  )
  (folder / "e").mkdir()
  for number in range(1, 13):
    clips.write_picture(folder / "e" / f"{number:05d}.jpg", number)
  shown = []
  original = encode.start_video
  monkeypatch.setattr(encode, "start_video", lambda *args: shown.append(args[1]) or original(*args))
  report = ask(session, data=folder)
  numbers = clips.read_numbers(shown[0].frames)
  assert (numbers[0], numbers[-1]) == (4, 9) and report["answers"][0]["seconds"] == 2.0


def test_several_videos_and_words_between_them(session, tmp_path):
  row = small.record(0, video=["0.mp4", "1.mp4"], parts=["First: ", 0, " then ", 1, " differ?"])
  report = ask(session, data=small.write(tmp_path / "small", [row]), protocol="official")
  prompt = report["first_prompt"]
  assert "<18 visual tokens>First:  then  differ?" in prompt and report["videos"] == 2


def test_equal_ids_are_told_apart(session, tmp_path):
  folder = small.write(tmp_path / "small", [small.record(0), small.record(0), small.record(1)])
  assert [row["id"] for row in ask(session, data=folder)["answers"]] == ["q0", "q0#2", "q1"]


def test_several_benchmarks_have_a_folder_each(run, session, data, tmp_path, capsys):
  small.write(data / "silent")
  names = f"{SMALL},{FILE}:silent"
  words = ["evals", "--checkpoint", run, "--benchmark", names, "--data", str(data), "--json"]
  assert main([*words, "--out", str(tmp_path / "out"), "--batch", "4"]) == 0
  reports = json.loads(capsys.readouterr().out)
  assert set(reports) == set(names.split(","))
  for name in ("small", "silent"):
    assert json.loads((tmp_path / "out" / name / "result.json").read_text())["questions"] == 6
  submitted = json.loads((tmp_path / "out/silent/submission.json").read_text())
  assert len(submitted) == 6


def test_the_command_prints_scores_and_why_they_are_not_comparable(run, data, capsys):
  words = ["evals", "--checkpoint", run, "--benchmark", SMALL, "--data", str(data)]
  assert main([*words, "--limit", "2", "--batch", "4"]) == 0
  out, err = capsys.readouterr()
  assert "by protocol lmms-eval (2): accuracy" in out
  assert "Note: Silent. Frames of the published numbers: the first 4.\n" in out
  assert "Not comparable with published numbers: 2 of 6" in out
  assert "2 questions about 1 media: at most 24 frames to decode" in err


def test_the_list_names_benchmarks_protocols_and_publishers(capsys):
  assert main(["evals", "--list"]) == 0
  assert "questions  protocols" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    ([], "Set --checkpoint"),
    (["--checkpoint", "x"], "either --benchmark"),
    (["--checkpoint", "x", "--benchmark", "a", "--manifest", "b"], "either --benchmark"),
    (["--process", "4/4"], "K from 0 to N-1"),
  ],
)
def test_incomplete_commands_say_what_to_set(words, sentence, capsys):
  assert main(["evals", *words]) == 2
  assert sentence in capsys.readouterr().err


def test_nothing_scored_names_the_first_reason(session, tmp_path):
  folder = small.write(tmp_path / "small", [small.record(0)], videos=0)
  with pytest.raises(NothingScored, match=r"0\.mp4: does not exist"):
    ask(session, data=folder, allow_missing=True)


def test_too_many_frames_for_the_context_says_how_many_fit(tmp_path):
  from filax.configs import vcf_toy

  flash = filax.load(tiny_checkpoint.write_checkpoint(tmp_path / "vcf", config_file=vcf_toy))
  folder = small.write(tmp_path / "many_frames")
  with pytest.raises(ValueError, match=r"9000 frames are .* at most \d+ frames fit: set --frames"):
    ask(flash, f"{FILE}:many_frames", data=folder)


def test_too_little_memory_names_the_batch(session, data, tmp_path, monkeypatch):
  def fail(*args, **kwargs):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

  monkeypatch.setattr(answering, "generate", fail)
  with pytest.raises(ValueError, match=r"does not hold 4 prompts at a time\. Lower --batch"):
    ask(session, data=data, out=tmp_path)


def test_all_phases_are_measured(report):
  seconds = report["seconds"]
  assert set(seconds) == {"decode", "wait", "encode", "prefill", "generate", "total"}
  assert min(seconds.values()) > 0 and 0 <= report["idle_share"] < 1


def test_reading_serially_gives_the_same_answers(session, data, report):
  serial = ask(session, data=data, protocol="official", ahead=0)
  assert serial["answers"] == report["answers"]


def test_a_prompt_beyond_the_context_is_listed(session, tmp_path):
  rows = [small.record(0, question="word " * 40_000), small.record(1)]
  report = ask(session, data=small.write(tmp_path / "small", rows, 1))
  assert (
    report["questions"] == 1 and "exceed the context" in report["skipped_questions"][0]["reason"]
  )


def test_long_videos_are_encoded_while_they_are_read(tmp_path, monkeypatch):
  from filax.configs import vcf_toy

  flash = filax.load(tiny_checkpoint.write_checkpoint(tmp_path / "vcf", config_file=vcf_toy))
  folder = small.write(tmp_path / "small", [small.record(0, start=0.5)])
  whole = ask(flash, data=folder)
  monkeypatch.setattr(reading, "LONG_BYTES", 0)
  parts = []
  original = encode_long.encode_timeline
  monkeypatch.setattr(
    encode_long, "encode_timeline", lambda *args: parts.append(args[1]) or original(*args)
  )
  streamed = ask(flash, data=folder)
  assert len(parts) == 1
  assert [row["answer"] for row in streamed["answers"]] == [
    row["answer"] for row in whole["answers"]
  ]


def test_two_results_in_one_folder_are_refused(session, tmp_path):
  with pytest.raises(ValueError, match=r"a/x\.json and b/x\.json would both be kept under 'x'"):
    ask(session, ["a/x.json", "b/x.json"], out=tmp_path)
