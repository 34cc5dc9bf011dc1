# SPDX-License-Identifier: Apache-2.0
"""filax chat and filax scenes as commands: what they print, and one sentence for bad input."""

import io
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from filax.cli import chat
from filax.cli.errors import BROKEN_PIPE
from filax.cli.main import main
from filax.infer import generate
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 60)


def test_chat_prints_an_answer_or_json(run, video, capsys):
  words = ["chat", "--checkpoint", run, "--video", video, "--question", "What shape is on red?"]
  assert main(words) == 0
  text = capsys.readouterr().out
  assert main([*words, "--json"]) == 0
  said = json.loads(capsys.readouterr().out)
  assert said["answer"] == text.rstrip("\n")
  assert len(said["times"]) == len(said["scenes"]) == 2 and said["duration"] == 6.0
  assert said["scenes"][0]["time"] == said["times"][0] == said["scenes"][0]["times"][-1]
  assert set(said["seconds"]) == {"load", "read", "encode", "prefill", "decode", "total"}


def test_chat_reads_questions_until_the_end_of_input(run, video, capsys, monkeypatch):
  monkeypatch.setattr(sys, "stdin", io.StringIO("What?\n\nAnd on blue?\n"))
  assert main(["chat", "--checkpoint", run, "--video", video, "--json"]) == 0
  said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row["question"] for row in said] == ["What?", "And on blue?"]
  assert said[0]["prompt_tokens"] < said[1]["prompt_tokens"]


def test_a_closed_input_has_no_questions(monkeypatch):
  monkeypatch.setattr(sys, "stdin", None)
  assert list(chat._input_questions()) == []


def lines_of_json(run, video, monkeypatch, capsys, text, *more) -> tuple[list[dict], str]:
  monkeypatch.setattr(sys, "stdin", io.StringIO(text))
  assert main(["chat", "--checkpoint", run, "--video", video, "--json", *more]) == 0
  out, err = capsys.readouterr()
  return [json.loads(line) for line in out.splitlines()], err


def test_a_talk_that_grows_too_long_starts_anew_with_the_question(run, video, capsys, monkeypatch):
  (first,), _ = lines_of_json(run, video, monkeypatch, capsys, "What?\n")
  room = first["prompt_tokens"] + 40  # For two or three of these questions.
  monkeypatch.setattr(generate, "context_length", lambda model: room)
  rows, err = lines_of_json(run, video, monkeypatch, capsys, "What?\n" * 8)
  assert [row["question"] for row in rows] == ["What?"] * 8
  assert all("answer" in row for row in rows)
  assert [row["prompt_tokens"] for row in rows].count(first["prompt_tokens"]) > 1
  assert "The talk starts anew." in err


def test_a_question_that_cannot_be_asked_is_a_line(run, video, capsys, monkeypatch):
  long = "circle " * 12_000
  rows, err = lines_of_json(run, video, monkeypatch, capsys, f"What?\n{long}\nAnd?\n")
  assert [row["question"] for row in rows] == ["What?", long.strip(), "And?"]
  assert ["answer" in row for row in rows] == [True, False, True]
  assert "exceed the context" in rows[1]["error"]
  assert rows[2]["prompt_tokens"] > rows[0]["prompt_tokens"], "the talk goes on"
  assert "starts anew" not in err


def test_a_closed_output_ends_the_talk(run, video, monkeypatch):
  words = ["chat", "--checkpoint", run, "--video", video]
  monkeypatch.setattr(sys, "stdin", io.StringIO("What?\n" * 50))
  reader, writer = os.pipe()
  os.close(reader)
  with os.fdopen(writer, "w") as closed:
    monkeypatch.setattr(sys, "stdout", closed)
    assert main(words) == BROKEN_PIPE
  assert sys.stdin.read is not None


def test_an_error_is_a_line_of_json_as_well(run, video, tmp_path, capsys, monkeypatch):
  words = ["chat", "--checkpoint", run, "--video", video, "--json"]
  assert main([*words, "--question", "circle " * 12_000]) == 2
  out, err = capsys.readouterr()
  assert "exceed the context" in json.loads(out)["error"] and "filax chat: A prompt" in err
  broken = str(tmp_path / "gone.mp4")
  monkeypatch.setattr(sys, "stdin", io.StringIO("One?\nTwo?\n"))
  assert main(["chat", "--checkpoint", run, "--video", broken, "--json"]) == 2
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row["question"] for row in rows] == ["One?", "Two?"] and "gone.mp4" in rows[0]["error"]


def test_a_question_beyond_the_memory_is_a_line_and_one_sentence(run, video, capsys, monkeypatch):
  monkeypatch.setattr(chat, "_ask", lambda *_: jnp.zeros(10**17, "uint8"))
  words = ["chat", "--checkpoint", run, "--video", video, "--question", "What?", "--json"]
  assert main(words) == 2
  out, err = capsys.readouterr()
  (sentence,) = [line for line in err.splitlines() if line.startswith("filax chat: ")]
  assert f"filax chat: {json.loads(out)['error']}" == sentence and "Traceback" not in err


def test_bytes_that_are_no_text_end_no_talk(run, video, capsys, monkeypatch):
  stdin = io.TextIOWrapper(io.BytesIO(b"What?\n\xff\xfe?\nAnd?\n"), encoding="utf-8")
  monkeypatch.setattr(sys, "stdin", stdin)
  assert main(["chat", "--checkpoint", run, "--video", video, "--json"]) == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row["question"] for row in rows] == ["What?", "\ufffd\ufffd?", "And?"]


@pytest.mark.parametrize("words", [["--yarn", "nan"], ["--yarn", "inf"], ["--frames", "0"]])
def test_a_setting_that_is_no_number_is_one_sentence(run, video, words, capsys):
  asked = ["chat", "--checkpoint", run, "--video", video, "--question", "What?"]
  assert main([*asked, *words]) == 2
  (sentence,) = capsys.readouterr().err.splitlines()
  assert sentence.startswith("filax chat: ")
  assert words[0] in sentence and words[1] in sentence


@pytest.mark.parametrize("name", [".", "run", "./run", "run/checkpoints/0", "0", "~/run"])
def test_a_checkpoint_is_found_from_any_folder(run, video, name, tmp_path, monkeypatch, capsys):
  (tmp_path / "run").symlink_to(run)
  where = {".": run, "0": f"{run}/checkpoints"}.get(name, tmp_path)
  monkeypatch.chdir(where)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert main(["chat", "--checkpoint", name, "--video", video, "--question", "What?"]) == 0
  sheet = str(tmp_path / "sheet.png")
  assert main(["scenes", "--checkpoint", name, "--video", video, "--out", sheet]) == 0


def test_scenes_draws_a_sheet_and_tells_the_times(run, video, tmp_path, capsys):
  sheet = tmp_path / "sheet.png"
  words = ["scenes", "--checkpoint", run, "--video", video, "--out", str(sheet)]
  assert main([*words, "--json"]) == 0
  said = json.loads(capsys.readouterr().out)
  assert len(said["uniform"]) == len(said["kmeans"]) == 2
  assert all(len(scene["times"]) == 3 for scene in said["kmeans"])
  with Image.open(sheet) as picture:
    assert np.asarray(picture.convert("RGB")).std() > 10
  assert main(words) == 0
  assert "kmeans:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["chat", "scenes"])
@pytest.mark.parametrize("name", clips.BROKEN_VIDEOS)
def test_bad_videos_are_one_sentence(run, verb, name, tmp_path, capsys):
  more = dict(chat=["--question", "What?"], scenes=["--out", str(tmp_path / "sheet.png")])[verb]
  path = clips.BROKEN_VIDEOS[name][0](tmp_path / name)
  assert main([verb, "--checkpoint", run, "--video", path, *more]) == 2
  out, err = capsys.readouterr()
  lines = [line for line in err.splitlines() if not line.startswith("compiled ")]
  assert not out and len(lines) == 1 and lines[0].startswith(f"filax {verb}: {path}")


def test_a_real_process_says_it_in_one_sentence(video, tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "filax",
      "chat",
      "--checkpoint",
      str(tmp_path),
      "--video",
      video,
      "--question",
      "What?",
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 2 and not done.stdout
  assert done.stderr.count("\n") == 1 and "No readable checkpoint" in done.stderr


def test_a_cache_that_keeps_nothing_is_said(run, video, tmp_path, capsys):
  words = ["chat", "--checkpoint", run, "--video", video, "--question", "What?"]
  words += ["--encode-cache", str(tmp_path)]
  assert main([*words, "--selector", "uniform"]) == 0
  assert "keeps nothing" not in capsys.readouterr().err and list(tmp_path.iterdir())
  assert main([*words, "--selector", "kmeans"]) == 0
  assert "--encode-cache keeps nothing, because selector kmeans" in capsys.readouterr().err
