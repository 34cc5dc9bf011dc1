# SPDX-License-Identifier: Apache-2.0
"""Commands end well with a closed output, and in a locale that lacks a character."""

import importlib
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from filax import disk_errors, files
from filax.cli import chat, errors
from filax.cli import main as filax
from filax.cli.terminal import printable, with_start_joined
from filax.convert import output_folder
from filax.testing import clips

# A locale whose encoding is not UTF-8 and that every machine has, as zh_CN.GBK is for others.
ASCII_LOCALE = dict(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")


@pytest.fixture
def terminal():
  """The two ends of a terminal: what a person types at, and what a command sees."""
  ours, theirs = pty.openpty()
  yield ours, theirs
  os.close(ours)
  os.close(theirs)


def test_a_terminal_does_not_obey_an_answer(terminal, monkeypatch):
  monkeypatch.setattr(sys, "stdout", os.fdopen(terminal[1], "w", closefd=False))
  assert printable("caf\xe9\t\x1b[2J\x07\r\x9b\n") == "caf\xe9\t\\x1b[2J\\x07\\x0d\\x9b\n"


def test_a_terminal_does_not_obey_a_name_in_an_error():
  """A manifest of others may name files as it likes."""
  ends_title = "\x1b]0;title\x07"
  missing = FileNotFoundError(2, "No such file or directory", f"a{ends_title}.mp4")
  expected = "a\\x1b]0;title\\x07.mp4: No such file or directory."
  assert errors.sentence(missing) == expected
  assert errors.sentence(ValueError(f"{ends_title} is unknown")).startswith("\\x1b]0;title\\x07 is")


def test_a_pipe_gets_an_answer_as_it_is(capsys):
  assert printable("\x1b[2J") == "\x1b[2J"


@pytest.mark.parametrize("pieces", [[], ["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_no_line_is_printed_after_the_first_piece_of_an_answer(pieces):
  joined = list(with_start_joined(pieces))
  assert joined[0] == "".join(pieces[:2]) and joined[1:] == pieces[2:]


def test_the_end_of_input_ends_the_line_of_the_prompt(terminal, capsys, monkeypatch):
  monkeypatch.setattr(sys, "stdin", os.fdopen(terminal[1], "r", closefd=False))
  os.write(terminal[0], b"What?\n\x04")
  assert list(chat._input_questions()) == ["What?"]
  assert capsys.readouterr().err == "> > \n"


def test_a_command_without_an_output_succeeds(monkeypatch):
  monkeypatch.setattr(sys, "stdout", None)
  assert errors.run_verb(lambda _: print("Nobody reads this."), [], "verb") == 0


def test_a_character_that_the_output_lacks_is_escaped(monkeypatch):
  content = io.BytesIO()
  monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
  assert errors.run_verb(lambda _: print("caf\xe9"), [], "verb") == 0
  assert content.getvalue() == b"caf\\xe9\n"


def test_a_full_temporary_folder_is_not_taken_for_the_disk_of_the_output(tmp_path):
  """A process of --verify could not write its arrays; the weights have room."""
  line = "--verify could not run the torch side: OSError: [Errno 28] No space left on device"
  with pytest.raises(disk_errors.TemporaryFolderFull, match="Set TMPDIR to a folder"):
    with output_folder.create_output_folder(tmp_path / "out"):
      with disk_errors.naming_temporary_folder():
        raise ValueError(line)


@pytest.mark.parametrize("write", [files.write_atomically, files.write_folder_atomically])
def test_a_full_disk_names_what_was_to_be_written(write, tmp_path, capsys):
  def fill(_):
    with write(tmp_path / "result"), open("/dev/full", "w") as file:
      file.write("x")

  assert errors.run_verb(fill, [], "verb") == 2
  assert f"filax verb: {tmp_path}/result: No space left on device." in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(capsys):
  def fill(_):
    with open("/dev/full", "w") as file:
      file.write("x")

  assert errors.run_verb(fill, [], "verb") == 2
  assert (
    "filax verb: What was to be written found no room: No space left" in capsys.readouterr().err
  )


CLOSED = """
import os, sys
os.closerange(0, 3)
sys.stdin = sys.stdout = sys.stderr = None
from filax.cli import main
code = main.main(["no verb"])
with open(sys.argv[1], "w") as file:
  file.write(f"{code} {file.fileno() > 2} {sys.stdin.read()!r} {sys.stderr.writable()}")
"""


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
  """Messages of C++ libraries go to number 2, whatever is open there."""
  subprocess.run([sys.executable, "-c", CLOSED, str(tmp_path / "file")], check=True)
  assert (tmp_path / "file").read_text() == "2 True '' True"


NO_DEVICE = """
import jax
from filax.cli import errors
for platforms in ("nonesuch", "cuda"):
  jax.config.update("jax_platforms", platforms)
  assert errors.run_verb(lambda _: jax.devices(), [], "verb") == 2
"""


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="jax finds the GPU")
def test_a_missing_device_is_a_sentence():
  done = subprocess.run(
    [sys.executable, "-c", NO_DEVICE],
    env=os.environ | dict(JAX_PLATFORMS="nonesuch"),
    capture_output=True,
    text=True,
  )
  first, second = done.stderr.splitlines()
  assert first.startswith("filax verb: jax finds no device of JAX_PLATFORMS=nonesuch: Unable to")
  assert second.endswith("Unset JAX_PLATFORMS, or set it to cpu; filax doctor shows the devices.")


@pytest.mark.parametrize("verb", ["train", "convert", "data", "show", "evals"])
def test_help_without_docstrings(verb, monkeypatch):
  """As with python -OO."""
  module, _ = filax.VERBS[verb]
  monkeypatch.setattr(importlib.import_module(module), "__doc__", None)
  try:
    assert filax.main([verb, "--help"]) == 0
  except SystemExit as ended:
    assert ended.code == 0


def run_in_ascii_locale(arguments, folder):
  environment = os.environ | ASCII_LOCALE
  command = [sys.executable, *arguments]
  return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")


def test_a_command_finds_files_whose_names_the_locale_cannot_write(tmp_path):
  clips.write_video(tmp_path / "\u89c6\u9891.mp4", frames=8)
  record = dict(video="\u89c6\u9891.mp4", caption="\u4f60\u597d")
  (tmp_path / "data.json").write_text(json.dumps([record]))
  run = run_in_ascii_locale(["-m", "filax", "data", "check", "data.json"], tmp_path)
  assert run.returncode == 0, run.stderr
  assert "1 good samples, 0 bad records" in run.stdout


def test_a_program_is_told_that_its_locale_cannot_write_a_name(tmp_path):
  lines = "from data_pipelines.media import probe; probe.probe('\u89c6\u9891.mp4')"
  (tmp_path / "program.py").write_text(lines, encoding="utf-8")
  run = run_in_ascii_locale(["program.py"], tmp_path)
  assert "the names of files in ascii" in run.stderr
  assert "Set PYTHONUTF8=1 before Python starts." in run.stderr
