# SPDX-License-Identifier: Apache-2.0
"""keep_running.sh: starts again until a command has finished, and stops it once."""

import pathlib
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch/keep_running.sh"


@pytest.fixture
def folder(tmp_path):
  yield tmp_path
  keep(tmp_path, "stop", "--patience", "0")


def keep(folder, step, *words):
  """Runs a step as sshd would: one shell, whose own command line holds all the words."""
  line = subprocess.list2cmdline(["bash", str(SCRIPT), step, "--folder", str(folder), *words])
  return subprocess.run(
    ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False
  )


def script(folder, text):
  path = folder / "filax"
  path.write_text(f"#!/usr/bin/env bash\n{text}\n")
  path.chmod(0o755)
  return str(path)


def wait_for(condition, seconds=30):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def log(folder):
  path = folder / "run.log"
  return path.read_text() if path.exists() else ""


def test_a_command_runs_again_until_it_succeeds(folder):
  """75 is "stopped, not finished", 1 a failure: both start again. 0 is the end."""
  command = script(
    folder,
    f"echo run >> {folder}/runs; n=$(wc -l < {folder}/runs)\n"
    "[ $n -eq 1 ] && exit 75; [ $n -eq 2 ] && exit 1; exit 0",
  )
  assert keep(folder, "start", "--pause", "0", "--", command).returncode == 0
  wait_for(lambda: "finished" in log(folder))
  assert (folder / "runs").read_text() == "run\n" * 3
  assert "ended with 75" in log(folder)
  assert keep(folder, "status").stdout.startswith("nothing runs")


def test_stop_sends_one_signal_and_waits_for_the_end(folder):
  command = script(
    folder,
    f"trap 'echo TERM >> {folder}/signals; sleep 1; echo saved >> {folder}/signals; "
    f"exit 75' TERM\necho ready > {folder}/ready\nwhile :; do sleep 0.1; done",
  )
  keep(folder, "start", "--pause", "0", "--", command)
  wait_for((folder / "ready").exists)
  status = keep(folder, "status")
  assert status.stdout.startswith("runs (process ")
  stopped = keep(folder, "stop")
  assert stopped.stdout == "stopped\n"
  assert (folder / "signals").read_text() == "TERM\nsaved\n"
  assert "stopped; the command ended with 75" in log(folder)
  assert keep(folder, "stop").stdout == "nothing runs\n"


def test_a_second_start_is_refused(folder):
  command = script(folder, "sleep 60")
  keep(folder, "start", "--", command)
  second = keep(folder, "start", "--", command)
  assert second.returncode == 2
  assert "already runs (process " in second.stderr


def test_the_number_of_another_process_is_not_taken_for_the_run(folder):
  (folder / "run.pid").write_text("1 999999999\n")
  assert keep(folder, "status").stdout == "nothing runs\n"
  assert keep(folder, "stop").stdout == "nothing runs\n"


def test_stop_during_the_pause(folder):
  keep(folder, "start", "--pause", "60", "--", script(folder, "exit 75"))
  wait_for(lambda: "starts again in 60 s" in log(folder))
  assert keep(folder, "stop").stdout == "stopped\n"


def test_words_reach_the_command_as_they_are(folder):
  command = script(folder, f"printf '[%s]' \"$@\" > {folder}/words")
  words = ["o'brien", "a b", "$HOME", "line\nbreak", ""]
  subprocess.run(
    ["bash", str(SCRIPT), "start", "--folder", str(folder), "--", command, *words],
    check=True,
    capture_output=True,
    timeout=60,
  )
  wait_for(lambda: "finished" in log(folder))
  assert (folder / "words").read_text() == "".join(f"[{word}]" for word in words)


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (["start", "--pause"], "--pause needs a value"),
    (["start", "--pause", "x", "--", "true"], "--pause is 'x'"),
    (["start"], "start needs a command"),
    (["begin"], "there is no step 'begin'"),
  ],
)
def test_refusals(words, sentence):
  done = subprocess.run(
    ["bash", str(SCRIPT), *words], capture_output=True, text=True, timeout=60, check=False
  )
  assert done.returncode == 2
  assert sentence in done.stderr
