# SPDX-License-Identifier: Apache-2.0
"""Shared by all commands: paths below the home folder, readers that stop reading."""

import importlib
import os
import pathlib
import subprocess
import sys
import tempfile

import jax.numpy as jnp
import numpy as np
import pytest

from filax.cli import config_flags, errors, main

ROOT = pathlib.Path(__file__).parents[1]
_TEMPORARY_FILE = os.path.join(tempfile.gettempdir(), "x", "y")


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  return str(tmp_path)


@pytest.mark.parametrize(
  ("word", "expected"),
  [
    ("~/run", "{home}/run"),
    ("~", "{home}"),
    ("--workdir=~/run", "--workdir={home}/run"),
    ("--config=~/c.py:debug", "--config={home}/c.py:debug"),
    ("--set=llm.theta=1", "--set=llm.theta=1"),
    ("runs/~x", "runs/~x"),
    ("gs://bucket/~/x", "gs://bucket/~/x"),
    ("--question=~/what", "--question=~/what"),
  ],
)
def test_home(word, expected, home):
  assert errors.with_home([word]) == [expected.format(home=home)]


def test_a_question_is_no_path(home):
  assert errors.with_home(["--question", "~/x?", "--video", "~/v.mp4"]) == [
    "--question",
    "~/x?",
    "--video",
    f"{home}/v.mp4",
  ]


def test_paths_inside_a_config_are_below_home(home):
  config, _ = config_flags.read_config(
    [
      "--config",
      "configs/fila_stage4.py:debug",
      "--config.data.train=(('~/my.json','all'),)",
      "--config.data.tokenizer=~/tokenizer.json",
      "--config.init_from=~/runs/stage3",
    ]
  )
  assert config.data.train == ((f"{home}/my.json", "all"),)
  assert config.data.tokenizer == f"{home}/tokenizer.json"
  assert config.init_from == f"{home}/runs/stage3"


@pytest.mark.parametrize(
  "argv", [["--help"], ["show", "--config", "configs/fila_stage4.py:debug"], ["train", "--help"]]
)
def test_a_reader_that_stops_ends_a_command_quietly(argv):
  """The pipe is closed before the first line, so every write fails."""
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [sys.executable, "-m", "filax", *argv],
    cwd=ROOT,
    stdout=writer,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    check=False,
  )
  os.close(writer)
  assert done.stderr == ""
  assert done.returncode == errors.BROKEN_PIPE


def test_a_broken_pipe_that_is_not_the_output_is_an_error(capsys):
  def main(argv):
    raise BrokenPipeError("worker 3 is gone")

  assert errors.run_verb(main, [], "train") == 2
  assert "worker 3 is gone" in capsys.readouterr().err


def test_ctrl_c_while_a_command_is_imported_is_quiet(monkeypatch, capsys):
  def interrupted(name):
    raise KeyboardInterrupt

  monkeypatch.setattr(importlib, "import_module", interrupted)
  assert main.main(["show", "--config", "fila_toy"]) == 130
  assert capsys.readouterr().err == "filax show: stopped.\n"


@pytest.mark.parametrize(
  ("error", "sentence"),
  [
    (FileExistsError(17, "File exists", "/x/y"), "filax show: /x/y: File exists.\n"),
    (PermissionError("Only root may."), "filax show: Only root may.\n"),
    (OSError(5, "Input/output error"), "filax show: [Errno 5] Input/output error\n"),
    (OSError(28, "No space left on device"), "found no room: No space left on device."),
    (OSError(28, "No space left on device", "/x/y"), "/x/y: No space left on device."),
    (OSError(28, "No space left on device", _TEMPORARY_FILE), "Set TMPDIR to a folder with more"),
    (RuntimeError("INTERNAL: No space left on device"), "found no room: No space left on device."),
    (FileNotFoundError(2, "No usable temporary directory found in ['/x']"), "Set TMPDIR to one."),
  ],
)
def test_errors_of_the_system_name_the_file(error, sentence, capsys):
  def main(argv):
    raise error

  assert errors.run_verb(main, [], "show") == 2
  assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("allocate", [np.empty, jnp.zeros])
def test_too_little_memory_is_one_sentence(allocate, capsys):
  def main(argv):
    allocate(10**17, "uint8")

  assert errors.run_verb(main, [], "chat") == 2
  (sentence,) = capsys.readouterr().err.splitlines()
  assert sentence.startswith("filax chat: There is too little memory: ") and "frames" in sentence


def test_an_error_that_is_nobodys_mistake_keeps_its_traceback():
  def main(argv):
    raise RuntimeError("a fault of FiLax")

  with pytest.raises(RuntimeError, match="a fault"):
    errors.run_verb(main, [], "chat")


def test_a_working_folder_that_is_gone_is_named(tmp_path, monkeypatch, capsys):
  folder = tmp_path / "gone"
  folder.mkdir()
  monkeypatch.chdir(folder)
  folder.rmdir()

  def main(argv):
    os.path.abspath("run")

  assert errors.run_verb(main, [], "chat") == 2
  assert "was started in was removed" in capsys.readouterr().err


def test_a_value_with_a_dash_is_written_after_an_equals_sign(capsys):
  assert main.main(["chat", "--checkpoint", "run", "--question", "-why?"]) == 2
  assert "written after =, as in --question=-5" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("verb", "option"),
  [
    ("chat", "--video"),
    ("chat", "--question"),
    ("scenes", "--video"),
    ("watch", "--source"),
    ("evals", "--manifest"),
    ("evals", "--benchmark"),
    ("analyze attention", "--video"),
  ],
)
def test_a_second_value_is_not_taken_in_place_of_the_first(verb, option, capsys):
  assert main.main([*verb.split(), "--checkpoint", "run", option, "one", option, "two"]) == 2
  error = capsys.readouterr().err
  assert f"argument {option}: takes one value, but was given 'one' and 'two'" in error
