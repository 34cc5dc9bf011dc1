# SPDX-License-Identifier: Apache-2.0
"""What local.sh and the batch script of slurm.sh do when a command ends, or a signal comes."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TRAIN = ["--", "train", "--config", "c", "--workdir", "w"]
# A training that saves for a moment and then ends with 75, however often it is told to stop.
SAVES = """
trap 'echo signal >> "$FOLDER/signals-$FILAX_PROCESS_ID"; sleep 0.5; exit 75' TERM INT
touch "$FOLDER/ready-$FILAX_PROCESS_ID"
while :; do sleep 0.05; done
"""


def program(folder, name, text):
  path = folder / name
  path.write_text(f"#!/usr/bin/env bash\n{text}\n")
  path.chmod(0o755)
  return str(path)


def environment(folder, python="false"):
  return os.environ | {
    "PYTHON": python,
    "FOLDER": str(folder),
    "PATH": f"{folder}:{os.environ['PATH']}",
  }


def local(folder, text, *options):
  return subprocess.Popen(
    ["bash", "launch/local.sh", "--processes", "2", *options, *TRAIN],
    cwd=ROOT,
    text=True,
    env=environment(folder, program(folder, "fake_python", text)),
    start_new_session=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def wait_until_ready(folder):
  deadline = time.monotonic() + 30
  while len(list(folder.glob("ready-*"))) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("to_group", [False, True])
def test_local_hands_a_signal_on_once(tmp_path, number, to_group):
  """Also if it comes to the whole group, as from a terminal: a second would end a process."""
  process = local(tmp_path, SAVES)
  wait_until_ready(tmp_path)
  if to_group:
    os.killpg(process.pid, number)
  else:
    process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0, output
  for index in range(2):
    assert (tmp_path / f"signals-{index}").read_text() == "signal\n"


def test_local_says_that_a_process_did_not_save(tmp_path):
  process = local(tmp_path, SAVES.replace("exit 75", "exit 1"))
  wait_until_ready(tmp_path)
  process.terminate()
  process.communicate(timeout=60)
  assert process.returncode == 143


def test_local_starts_again_what_is_not_finished(tmp_path):
  """75 is not a failure, so it takes none of --restarts."""
  text = (
    'trap "" TERM\nn=$(cat "$FOLDER/n$FILAX_PROCESS_ID" 2>/dev/null || echo 0)\n'
    'echo $((n + 1)) > "$FOLDER/n$FILAX_PROCESS_ID"; [ "$n" -ge 2 ] || exit 75'
  )
  process = local(tmp_path, text, "--processes", "1")
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0, output
  assert output.count("starting again") == 2
  assert (tmp_path / "n0").read_text() == "3\n"


def test_local_counts_failures(tmp_path):
  process = local(tmp_path, "exit 3", "--restarts", "1")
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 3
  assert output.count("restart 1 of 1") == 1


def batch(folder, srun):
  """The batch script of slurm.sh, running with stand-ins for srun and scontrol."""
  program(folder, "srun", srun)
  program(folder, "scontrol", 'echo "scontrol $*" >> "$FOLDER/asked"')
  script = subprocess.run(
    ["bash", "launch/slurm.sh", "--dry-run", *TRAIN],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  path = folder / "batch.sh"
  path.write_text(script.stdout)
  return subprocess.Popen(
    ["bash", str(path)],
    env=environment(folder) | {"SLURM_JOB_ID": "7"},
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False), (2, False)])
def test_slurm_requeues_what_is_not_finished(tmp_path, code, requeued):
  process = batch(tmp_path, f"exit {code}")
  output, _ = process.communicate(timeout=60)
  assert (tmp_path / "asked").exists() == requeued, output
  if requeued:
    assert (tmp_path / "asked").read_text() == "scontrol requeue 7\n"
  else:
    assert process.returncode == code


def test_slurm_does_not_requeue_what_was_cancelled(tmp_path):
  """scancel tells the batch script too; it waits for the processes to save."""
  process = batch(
    tmp_path, 'touch "$FOLDER/ready-0" "$FOLDER/ready-1"; sleep 1; touch "$FOLDER/saved"; exit 75'
  )
  wait_until_ready(tmp_path)
  process.terminate()
  process.communicate(timeout=60)
  assert (tmp_path / "saved").exists()
  assert not (tmp_path / "asked").exists()
  assert process.returncode == 75
