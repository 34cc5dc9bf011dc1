# SPDX-License-Identifier: Apache-2.0
"""filax watch: a file that plays, questions at times and typed ones, and a stream that breaks."""

import json
import threading

import numpy as np
import pytest

from data_pipelines.media.open import MediaError
from filax.cli import watch
from filax.cli.main import main
from filax.configs import vcf_stage3
from filax.infer import arrivals
from filax.infer.arrivals import Arrivals, ArrivedFrame, ArrivedQuestion, EndOfVideo
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

TOKENS = ("--tokens", "128")  # A small cache, so that the tests are quick.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(
    tmp_path_factory.mktemp("run"), config_file=vcf_stage3, **{"model.llm.dropout": "1:uniform:0.5"}
  )


def watched(run, source, capsys, *more):
  """(exit code, rows, stderr) of filax watch."""
  words = [
    "watch",
    "--checkpoint",
    run,
    "--source",
    str(source),
    "--speed",
    "0",
    "--json",
    *TOKENS,
    *more,
  ]
  code = main(words)
  out, err = capsys.readouterr()
  return code, [json.loads(line) for line in out.splitlines()], err


def test_a_question_every_few_seconds(run, tmp_path, capsys):
  path = clips.write_video(tmp_path / "a.mp4", 30, 1)
  code, rows, _ = watched(run, path, capsys, "--every", "8", "--question", "What?")
  assert code == 0
  *answers, end = rows
  assert [row["second"] for row in answers] == [7, 15, 23, 27]
  assert {row["question"] for row in answers} == {"What?"}
  assert all(row["event"] == "answer" and row["tokens"] for row in answers)
  assert end["event"] == "end" and end["frames"] == 28 and end["waiting"] == 2
  assert end["error"] == "" and end["missed"] == end["dropped"] == 0


def test_a_budget_bounds_what_is_held(run, tmp_path, capsys):
  path = clips.write_video(tmp_path / "a.mp4", 40, 1)
  _, rows, _ = watched(run, path, capsys, "--question", "What?", "--tokens", "64")
  answer, end = rows
  assert end["tokens"] <= 64 and end["dropped"] == 10 - end["groups"] > 0
  assert answer["oldest"] == end["oldest"] == 4 * end["dropped"]


def test_a_damaged_video_keeps_what_was_seen(run, tmp_path, capsys):
  path = clips.write_corrupt(tmp_path / "a.mp4")
  code, rows, _ = watched(run, path, capsys, "--fps", "10", "--question", "What?")
  answer, end = rows
  assert code == 1 and answer["frames"] >= 4
  assert "a.mp4" in end["error"]


def test_a_source_of_nothing_is_one_sentence(run, tmp_path, capsys):
  nowhere = str(tmp_path / "nowhere")  # The source is looked for before a checkpoint is loaded.
  code, rows, err = watched(nowhere, tmp_path / "no.mp4", capsys)
  assert code == 2 and not rows
  assert err.splitlines()[-1].endswith("no.mp4: does not exist.")
  code, rows, err = watched(run, clips.write_video(tmp_path / "a.mp4", 2, 1), capsys)
  assert code == 2 and "ended before a clip was whole (2 frames)" in err
  code, _, err = watched(run, "ftp://camera/stream", capsys)
  assert code == 2 and "--source=ftp://camera/stream cannot be watched" in err


def test_questions_are_answered_after_the_end(run, tmp_path, capsys, monkeypatch):
  """Typed questions, the first before anything was seen."""
  ended = threading.Event()
  finish = watch._Watch._finish

  def finish_and_tell(self, error):
    finish(self, error)
    ended.set()

  def lines():
    yield "Too early?\n"
    ended.wait(60)
    yield "What shape is on red?\n"

  monkeypatch.setattr(watch._Watch, "_finish", finish_and_tell)
  monkeypatch.setattr(watch, "_typed_lines", lines)
  code, rows, _ = watched(run, clips.write_video(tmp_path / "a.mp4", 8, 1), capsys)
  assert code == 0
  *first, last = [row["event"] for row in rows]
  assert last == "answer"
  # On a busy machine the video may end before the first question is looked at.
  assert sorted(first) in (["end", "error"], ["answer", "end"])
  assert rows[-1]["question"] == "What shape is on red?" and rows[-1]["frames"] == 8


def test_people_read_lines(run, tmp_path, capsys):
  path = clips.write_video(tmp_path / "a.mp4", 8, 1)
  words = [
    "watch",
    "--checkpoint",
    run,
    "--source",
    path,
    "--speed",
    "0",
    "--question",
    "What?",
    *TOKENS,
  ]
  assert main(words) == 0
  out, err = capsys.readouterr()
  assert out.startswith("[7.0 s] What?\n")
  assert "a.mp4 ended. Seen: 7 seconds, 8 frames, 32 tokens, 2 groups." in err
  assert "visual dropout is off" in err


class Source:
  """Stands for a LiveVideo."""

  display_name = "source"

  def __init__(self, count, waits, error=None):
    self.count = count
    self.waits = waits
    self.error = error

  def frames(self):
    for number in range(self.count):
      yield float(number), np.zeros((1, 1, 3), np.uint8)
    if self.error is not None:
      raise self.error


def test_a_file_waits_and_a_camera_does_not(monkeypatch):
  monkeypatch.setattr(arrivals, "HELD", 3)
  everything = list(Arrivals(Source(20, True)))
  assert [arrival.second for arrival in everything[:-1]] == list(range(20))
  assert everything[-1] == EndOfVideo()
  camera = Arrivals(Source(20, False))
  while not camera.missed:
    pass
  assert sum(isinstance(arrival, ArrivedFrame) for arrival in camera) + camera.missed == 20


@pytest.mark.parametrize("error", [MediaError("source: broke."), RuntimeError("broke")])
def test_any_failure_of_a_source_is_its_end(error):
  *frames, end = Arrivals(Source(2, True, error))
  assert len(frames) == 2 and end == EndOfVideo("source: broke.")


def test_lines_outlive_the_video():
  kinds = [type(arrival) for arrival in Arrivals(Source(1, True), ["a", " ", "b"])]
  assert kinds.count(ArrivedQuestion) == 2 and kinds.count(EndOfVideo) == 1
