# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import subprocess
import sys
import time

from compile_flags import QUICK
import pytest

from filax.testing import interrupted
from filax.train import goodput
from filax.train.goodput import GoodputFile, PhaseClock

BEFORE = dict.fromkeys(goodput.PHASES, 0.0) | dict(start=1.0, step=20.0, save=2.0, lost=3.0)
RUN = """\
import sys
from filax.testing import row_source
from filax.train import loop
config = row_source.tiny_train_config(steps=400, checkpoint_every=20, keep=0, log_every=1)
loop.train_pipeline(config, sys.argv[1], row_source.RandomRows(8))
"""


def test_every_second_counts_for_one_phase():
  before = time.perf_counter()
  clock = PhaseClock()
  began = time.perf_counter()
  with clock.timed(goodput.SAVE):
    time.sleep(0.02)
    with clock.timed(goodput.EVALUATE):
      time.sleep(0.01)
  clock.switch(goodput.STEP)
  time.sleep(0.01)
  ended = time.perf_counter()
  seconds = clock.seconds()
  after = time.perf_counter()
  rounding = 1e-6
  assert ended - began - rounding <= sum(seconds.values()) <= after - before + rounding
  assert seconds["save"] >= 0.02 and seconds["evaluate"] >= 0.01 and seconds["step"] >= 0.01


@pytest.mark.parametrize(
  "first, step, lost",
  [
    (40, 12.0, 11.0),  # 8 s of steps after the checkpoint are done again.
    (0, 0.0, 23.0),  # No checkpoint: all of them.
    (60, 20.0, 3.0),  # An unknown checkpoint: nothing is known to be lost.
  ],
)
def test_steps_after_the_checkpoint_are_lost(first, step, lost):
  after = goodput.seconds_after_restart(BEFORE, {"20": 6.0, "40": 12.0}, first)
  assert (after["step"], after["lost"]) == (step, lost)
  assert sum(after.values()) == sum(BEFORE.values())


def test_a_second_start_goes_on_counting(tmp_path):
  earlier = GoodputFile(tmp_path, PhaseClock())
  earlier.clock.add_earlier(BEFORE)
  earlier.note_save(40, dict(num_bad=5, idle_steps=1))
  earlier.note_save(60, dict(num_bad=9, idle_steps=2))
  later = GoodputFile(tmp_path, PhaseClock())
  later.resume(40)
  seconds = later.clock.seconds()
  assert seconds["step"] == 20.0 and seconds["lost"] == 3.0 and seconds["save"] == 2.0
  assert later.counts_until(40) == dict(num_bad=5, idle_steps=1), "steps after 40 are done again"
  assert later.counts_until(50) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"seconds": {}, "saves": {}}', b"\xff"])
def test_a_damaged_file_counts_as_none(content, tmp_path, capsys):
  (tmp_path / goodput.FILE).write_bytes(content)
  GoodputFile(tmp_path, PhaseClock()).resume(3)
  assert "It is made anew." in capsys.readouterr().err
  assert goodput.read_goodput(tmp_path)["seconds"]["lost"] == 0.0


def test_a_full_disk_ends_no_run(tmp_path, capsys):
  with interrupted.full_disk(1):
    GoodputFile(tmp_path, PhaseClock()).write()
  assert "cannot be written" in capsys.readouterr().err


def start(workdir):
  environment = os.environ | dict(XLA_FLAGS=QUICK)
  return subprocess.Popen([sys.executable, "-c", RUN, str(workdir)], env=environment)


def records(workdir):
  path = workdir / "metrics.jsonl"
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith("\n")]


def reach(process, workdir, step):
  while not any(record["step"] >= step for record in records(workdir)):
    assert process.poll() is None
    time.sleep(0.02)


@pytest.mark.long
def test_a_killed_run_shows_the_lost_seconds(tmp_path):
  killed = start(tmp_path)
  reach(killed, tmp_path, 47)
  killed.send_signal(signal.SIGKILL)
  killed.wait()
  before = records(tmp_path)
  resumed = start(tmp_path)
  reach(resumed, tmp_path, 70)
  resumed.send_signal(signal.SIGTERM)
  assert resumed.wait(60) == 0
  after = records(tmp_path)[-1]
  file = goodput.read_goodput(tmp_path)
  assert file["saves"]["40"] <= before[-1]["seconds/step"]
  assert after["seconds/lost"] == file["seconds"]["lost"]
  assert 0 <= after["seconds/lost"] <= before[-1]["seconds/step"]
  for phase in ("start", "restore", "compile"):
    assert after[f"seconds/{phase}"] > before[-1][f"seconds/{phase}"] > 0
  whole = sum(after[f"seconds/{phase}"] for phase in goodput.PHASES)
  assert after["goodput"] == pytest.approx(after["seconds/step"] / whole)
