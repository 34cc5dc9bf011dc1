# SPDX-License-Identifier: Apache-2.0
"""Scores on real files: what the model says is known from filax.chat, so the accuracy is."""

import json
import pathlib

import pytest

from data_pipelines.sample import Turn
from data_pipelines.tools import reformat
import filax
from filax.cli.main import main
from filax.evals import answering
from filax.evals.kit import Example
from filax.evals.metrics import exact
from filax.infer import encode
from filax.infer.generate import generate
from filax.testing import clips, manifests, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTIONS = ("What shape is on red?", "What colour is on blue?", "What shape is on blue?")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def session(run):
  return filax.load(run)


@pytest.fixture(scope="module")
def manifest(session, tmp_path_factory):
  """6 questions about 2 videos of which the model gets 4 right, 1 about a bad video, 1 record that
  is bad, 1 question in words alone, 1 about a picture."""
  folder = tmp_path_factory.mktemp("questions")
  rows = []
  for video, wrong in (("a.mp4", 0), ("b.mp4", 2)):
    clips.write_video(folder / video, 40, first=100 * (video == "b.mp4"))
    for number, question in enumerate(QUESTIONS):
      answer = session.ask(folder / video, question)
      rows.append(
        manifests.question_record(
          question,
          "wrong" if number == wrong else answer,
          video=video,
          kind=question.split()[1],
          id=f"{video}-{number}",
        )
      )
  clips.write_truncated(folder / "bad.mp4")
  rows.insert(3, manifests.question_record(QUESTIONS[0], "circle", video="bad.mp4", kind="shape"))
  rows.append(dict(conversations="none"))
  clips.write_picture(folder / "still.png")
  rows.append(manifests.question_record("Who?", "you", kind="words"))
  rows.append(manifests.question_record("What is this?", "bars", image="still.png", kind="picture"))
  return manifests.write_manifest(folder / "held_out.json", rows)


def written(folder):
  """The result in a folder, with its answers."""
  lines = (folder / "answers.jsonl").read_text().splitlines()
  answers = [json.loads(line) for line in lines]
  return json.loads((folder / "result.json").read_text()) | dict(answers=answers)


def quick(session, manifest, **options):
  return filax.evaluate(session, manifest, progress=False, **options)


def test_accuracy_and_counts(session, manifest):
  report = quick(session, manifest, batch=4)
  scores = {row["id"]: row["score"] for row in report["answers"]}
  assert {k: v for k, v in scores.items() if "mp4" in k} == {
    "a.mp4-0": 0,
    "a.mp4-1": 1,
    "a.mp4-2": 1,
    "b.mp4-0": 1,
    "b.mp4-1": 1,
    "b.mp4-2": 0,
  }
  assert report["questions"] == 8 and report["videos"] == 4 and report["skipped"] == 1
  assert report["accuracy"] == pytest.approx(sum(scores.values()) / 8)
  kinds = report["by"]["kind"]
  assert kinds["shape"] == dict(accuracy=0.5, questions=4)
  assert kinds["colour"] == dict(accuracy=1.0, questions=2)
  assert [pathlib.Path(name).name for name in report["bad_media"]] == ["bad.mp4"]
  assert len(report["bad_records"]) == 1 and "held_out.json:9:" in report["bad_records"][0]
  assert report["selector"] == "kmeans" and report["seconds"]["total"] > 0
  json.dumps(report)


def test_the_size_of_the_batch_changes_nothing(session, manifest):
  def strip(report):
    return sorted(report["answers"], key=lambda row: row["id"])

  assert strip(quick(session, manifest, batch=4)) == strip(quick(session, manifest, batch=3))


def test_a_video_is_encoded_once_for_all_its_questions(session, manifest, monkeypatch):
  calls = []
  original = encode.start_video
  monkeypatch.setattr(
    encode, "start_video", lambda *args: calls.append(args[1].path) or original(*args)
  )
  quick(session, manifest, batch=4)
  assert len(calls) == len(set(calls)) == 2


def test_blind_shows_grey_and_does_not_read(session, manifest, monkeypatch):
  shown = []
  original = encode.start_video
  monkeypatch.setattr(encode, "start_video", lambda *args: shown.append(args[1]) or original(*args))
  report = quick(session, manifest, batch=4, blind=True)
  assert report["blind"] and report["questions"] == 8 and report["skipped"] == 1
  assert all((video.frames == 127).all() for video in shown)
  assert shown[0].times[-1] == pytest.approx(3.9)


def test_uniform_frames_are_as_many_as_scenes_show(session, manifest):
  report = quick(session, manifest, batch=4, selector="uniform", limit=3)
  assert (report["selector"], report["frames"], report["questions"]) == ("uniform", 6, 3)


def test_options_are_asked_for_by_letter(session, manifest, tmp_path):
  folder = pathlib.Path(manifest).parent
  path = manifests.write_manifest(
    tmp_path / "choice.json",
    [manifests.question_record(QUESTIONS[0], "ring", video="a.mp4", options=["circle", "ring"])],
  )
  report = quick(session, path, root=str(folder))
  (row,) = report["answers"]
  asked = Example("x", Turn("user", ("",)), "ring", options=("circle", "ring"))
  letter = exact.chosen_letter(row["answer"], asked)
  assert (row["parsed"], row["score"]) == (letter is not None, float(letter == "B"))


def test_several_manifests_give_several_reports(session, manifest):
  found = quick(session, [manifest], limit=1)
  assert found[manifest]["questions"] == 1


@pytest.mark.parametrize(
  "records, message",
  [([], "holds no question"), ([dict(conversations=[])], "the first reason: .*empty.json:2:")],
)
def test_nothing_to_ask_is_one_sentence(session, tmp_path, records, message):
  path = manifests.write_manifest(tmp_path / "empty.json", records)
  with pytest.raises(ValueError, match=message):
    quick(session, path)


def refused(session, folder, *more):
  """A manifest with a question beyond the context, one of a bad video, a bad record, and a good
  one."""
  clips.write_video(folder / "a.mp4", 40)
  clips.write_truncated(folder / "bad.mp4")
  return manifests.write_manifest(
    folder / "questions.json",
    [
      manifests.question_record("word " * 40_000, "B", video="a.mp4", id="long"),
      manifests.question_record(QUESTIONS[0], "B", video="bad.mp4", id="bad"),
      dict(conversations="none"),
      *more,
    ],
  )


def test_a_question_that_cannot_be_asked_is_listed_and_skipped(session, run, tmp_path, capsys):
  path = refused(
    session, tmp_path, manifests.question_record(QUESTIONS[0], "x", video="a.mp4", id="good")
  )
  out = tmp_path / "results"
  report = quick(session, path, batch=2, out=out)
  assert [row["id"] for row in report["answers"]] == ["good"]
  assert (report["questions"], report["skipped"], report["finished"]) == (1, 2, True)
  assert [text.split(":")[0] for text in report["bad_questions"]] == ["long"]
  assert "exceed the context" in report["bad_questions"][0]
  assert len(report["bad_media"]) == len(report["bad_records"]) == 1
  assert written(out) == json.loads(json.dumps(report))
  assert main(["evals", "--checkpoint", run, "--manifest", path]) == 0
  table = capsys.readouterr().out
  assert "2 questions skipped" in table and "\nlong: A prompt of" in table


def test_nothing_to_score_is_an_error(session, run, tmp_path, capsys):
  path = refused(session, tmp_path)
  out = tmp_path / "results"
  words = ["evals", "--checkpoint", run, "--manifest", path, "--json", "--out", str(out)]
  assert main(words) == 2
  printed, err = capsys.readouterr()
  assert not printed
  assert "None of the 2 questions" in err.splitlines()[-1] and "long: A prompt" in err
  report = written(out)
  assert report["accuracy"] is None and report["skipped"] == 2 and report["bad_questions"]


def test_a_run_that_is_stopped_leaves_its_answers(session, manifest, tmp_path, monkeypatch):
  out = tmp_path / "results"
  asked = []

  def stopped(*args, **kwargs):
    asked.append(len((out / "answers.jsonl").read_text().splitlines()))
    if len(asked) == 3:
      raise KeyboardInterrupt
    return generate(*args, **kwargs)

  monkeypatch.setattr(answering, "generate", stopped)
  with pytest.raises(KeyboardInterrupt):
    quick(session, manifest, batch=2, out=out)
  assert asked == [0, 2, 4]
  report = written(out)
  assert len(report["answers"]) == 4 and not report["finished"] and not report["comparable"]


@pytest.mark.parametrize("setting", [dict(batch=0), dict(limit=-1), dict(threads=0)])
def test_a_count_that_asks_nothing_is_refused(session, manifest, setting):
  ((name, value),) = setting.items()
  with pytest.raises(ValueError, match=f"{name}={value} asks nothing. Set --{name}"):
    quick(session, manifest, **setting)


def test_a_setting_is_not_blamed_on_the_questions(session, manifest):
  with pytest.raises(ValueError, match="max_new_tokens=0"):
    quick(session, manifest, max_new_tokens=0)


def test_the_command_prints_a_table_or_json_and_writes_every_answer(
  run, manifest, tmp_path, capsys
):
  out = tmp_path / "scores" / "toy"
  words = ["evals", "--checkpoint", run, "--manifest", manifest, "--batch", "4"]
  assert main([*words, "--json", "--out", str(out)]) == 0
  said, err = capsys.readouterr()
  report = json.loads(said)
  assert report["questions"] == 8 and "answers" not in report
  assert len(written(out)["answers"]) == 8
  assert "questions 9/9, 1 bad media" in err
  assert main([*words, "--limit", "3"]) == 0
  table = capsys.readouterr().out
  assert "all" in table and "shape" in table and "0.667" in table


def test_a_missing_manifest_is_one_sentence(run, capsys):
  assert main(["evals", "--checkpoint", run, "--manifest", "nothing.json"]) == 2
  assert "There is no manifest nothing.json" in capsys.readouterr().err.splitlines()[-1]


def test_a_tar_of_questions_and_videos_is_asked(session, manifest, tmp_path):
  reformat.reformat_manifest(manifest, tmp_path / "held_out.tar")
  inside = filax.evaluate(session, tmp_path / "held_out.tar", out=tmp_path / "out")
  assert inside["missing"] == 0 and inside["questions"] == 8
  assert (tmp_path / "out/page.html").exists()
