# SPDX-License-Identifier: Apache-2.0
import importlib
import json
import sys
import tracemalloc
import types

import jax
import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from filax.costs import Costs
from filax.testing import interrupted
from filax.train import metrics, tensorboard, tracker

STEP = dict(
  loss=1.5,
  accuracy=0.25,
  grad_norm=2.0,
  supervised=10.0,
  tokens=100.0,
  frames=8.0,
  images=2.0,
  padding=0.5,
  passed=90.0,
  pairs=1000.0,
  left=80.0,
  num_bad=1.0,
  finite=1.0,
  **{"lr/llm": 1e-5},
)


def meter(monkeypatch, costs=None, peak=None):
  clock = types.SimpleNamespace(now=100.0)
  monkeypatch.setattr(metrics.time, "perf_counter", lambda: clock.now)
  compilations = types.SimpleNamespace(count=3, seconds=0.0)
  return metrics.Meter(20, costs, peak, compilations), clock, compilations


def test_rates_are_over_the_window_without_compilation(monkeypatch):
  made, clock, compilations = meter(monkeypatch)
  for _ in range(4):
    made.count_step(STEP)
  clock.now, compilations.seconds = 107.0, 5.0
  record = made.record(4, STEP)
  assert record["tokens_per_second"] == 400 / 2 and record["frames_per_second"] == 40 / 2
  assert record["seconds_per_step"] == 0.5 and record["eta_seconds"] == 16 * 0.5
  assert (record["num_bad"], record["compilations"], record["mfu"]) == (4, 3, None)
  made.count_step(STEP)
  clock.now = 108.0
  assert made.record(5, STEP)["tokens_per_second"] == 100.0
  assert made.seconds == 3.0 and made.totals["tokens"] == 500


def test_mfu_counts_work_against_the_peak(monkeypatch):
  costs = Costs(token=6e9, head=1e9, pair=1e6, frame=2e9, image=3e9)
  made, clock, _ = meter(monkeypatch, costs, peak=2.0)
  made.count_step(STEP)
  clock.now = 101.0
  work = 5e9 * 90 + 1e9 * 80 + 1e6 * 1000 + 2e9 * 8 + 3e9 * 2
  assert made.record(1, STEP)["mfu"] == pytest.approx(work / (2e12 * jax.device_count()))


@pytest.mark.parametrize(
  "kind, peak",
  [("TPU v5 lite", 197), ("TPU v5p", 459), ("TPU v4", 275), ("NVIDIA H200", 989), ("cpu", None)],
)
def test_peak(kind, peak):
  device = types.SimpleNamespace(device_kind=kind)
  assert metrics.peak_tflops(0.0, device) == peak
  assert metrics.peak_tflops(7.0, device) == 7.0


def test_line_says_it_all(monkeypatch):
  made, clock, _ = meter(monkeypatch)
  made.count_step(STEP)
  clock.now = 102.0
  text = metrics.progress_line(made.record(1, STEP), 20)
  for part in (
    "step 1/20",
    "loss 1.5000",
    "lr llm 1.00e-05",
    "50 tokens/s",
    "5.0 frames/s",
    "padding 50%",
    "mfu n/a",
    "eta 0:00:38",
    "compiled 3",
    "bad 1",
  ):
    assert part in text


def test_a_step_without_a_supervised_token_has_no_loss(monkeypatch, tmp_path, capsys):
  made, _, _ = meter(monkeypatch)
  nothing = dict(STEP, loss=0.0, accuracy=0.0, supervised=0.0)
  for step in (STEP, nothing):
    made.count_step(step)
  record = made.record(2, nothing)
  assert record["loss"] is None and record["accuracy"] is None and record["idle_steps"] == 1
  with tracker.MetricsLog(tmp_path, 0, 9) as log:
    log.write_record(record)
  line = capsys.readouterr().out
  assert "loss n/a acc n/a norm 2" in line and "| steps without a supervised token 1" in line
  made.count_step(STEP)
  made.add_earlier(dict(num_bad=7, idle_steps=2))
  record = made.record(3, STEP)
  assert (record["loss"], record["num_bad"], record["idle_steps"]) == (1.5, 10, 3)


def test_compilations_are_counted():
  with metrics.Compilations() as compilations:
    program = jax.jit(lambda x: x * 3 + 1)
    program(jnp.ones(5)).block_until_ready()
    before = compilations.count
    program(jnp.ones(5)).block_until_ready()
    assert compilations.count == before >= 1
  jax.jit(lambda x: x * 5 - 2)(jnp.ones(5))
  assert compilations.count == before


def records(*steps):
  base = dict(
    STEP, tokens_per_second=1.0, frames_per_second=1.0, mfu=None, eta_seconds=1.0, compilations=1
  )
  return [dict(base, step=n) for n in steps]


def write(folder, start, *steps):
  with tracker.MetricsLog(folder, start, 9) as log:
    for record in records(*steps):
      log.write_record(record)


def test_lines_after_the_restored_step_are_replaced(tmp_path, capsys):
  write(tmp_path, 0, 1, 2, 3, 4)
  path = tmp_path / "metrics.jsonl"
  with path.open("a") as file:
    file.write('{"step": 5, "lo')  # Killed while writing.
  write(tmp_path, 2, 3, 4, 5)
  assert [json.loads(x)["step"] for x in path.read_text().splitlines()] == [1, 2, 3, 4, 5]
  assert capsys.readouterr().out.count("step 3/9") == 2


DAMAGED = {  # A line of metrics.jsonl -> the same, damaged.
  "byte in a name": (b'"accuracy"', b'"\xffaccuracy"'),
  "byte": (b'"step": 2', b'"step": \x80'),
  "torn": (b'"loss": 1.5, ', b""),
  "zeros": (b'{"step"', bytes(500) + b'{"step"'),
  "no step": (b'"step"', b'"stop"'),
  "text": (b'"step": 2', b'"step": "2"'),
  "list": (b'{"step"', b'[{"step"'),
  "nested": (b'{"step"', b"[" * 100_000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_bad_line_never_stops_a_resume(name, tmp_path, capsys):
  write(tmp_path, 0, 1, 2, 3)
  path = tmp_path / "metrics.jsonl"
  lines = path.read_bytes().splitlines(keepends=True)
  old, new = DAMAGED[name]
  assert old in lines[1]
  lines[1] = lines[1][:30] + b"\n" if name == "torn" else lines[1].replace(old, new)
  path.write_bytes(b"".join(lines))
  write(tmp_path, 3, 4)
  assert path.read_bytes().startswith(lines[0] + lines[2])
  assert [record["step"] for record in metrics.read_records(path)] == [1, 3, 4]
  assert capsys.readouterr().err == f"{path}, line 2 is damaged and is left out.\n"


def test_sound_lines_stay_as_they_are(tmp_path):
  path = tmp_path / "metrics.jsonl"
  write(tmp_path, 0, 1, 2)
  with path.open("a") as file:
    file.write('{"step": 3, "loss": NaN, "é": 1e-07, "mfu": null}\n')
  before = path.read_bytes()
  write(tmp_path, 3)
  assert path.read_bytes().splitlines()[:2] == before.splitlines()[:2]
  assert [record["step"] for record in metrics.read_records(path)] == [1, 2, 3]


def test_a_resume_holds_one_record_in_memory(tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = [json.dumps(dict(step=step, note="x" * 500)).encode() + b"\n" for step in range(5_000)]
  path.write_bytes(b"".join(lines))
  tracemalloc.start()
  try:
    metrics.drop_records_after(path, 4_000)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert path.read_bytes() == b"".join(lines[:4_001])
  assert peak < 300_000, f"{peak:,} bytes for a file of {path.stat().st_size:,}"


def test_leftovers_of_killed_writers_are_removed(tmp_path):
  path = str(tmp_path / "metrics.jsonl")
  interrupted.kill_writer(f"write_atomically({path!r})", "out.write(b'half')")
  write(tmp_path, 0, 1)
  assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}


def test_a_new_run_drops_the_lines_of_one_that_left_no_checkpoint(tmp_path):
  write(tmp_path, 0, 1, 2)
  write(tmp_path, 0, 1)
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def events(path):
  """The records of a TensorBoard file: length, its checksum, bytes, their checksum."""
  data, at = path.read_bytes(), 0
  while at < len(data):
    size = int.from_bytes(data[at : at + 8], "little")
    yield event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
    at += 12 + size + 4


def test_tensorboard(tmp_path):
  write(tmp_path, 0, 1, 2)
  (path,) = (tmp_path / "tensorboard").iterdir()
  values = [(e.step, v.tag, v.simple_value) for e in events(path) for v in e.summary.value]
  assert (2, "train/loss", 1.5) in values
  first = next(event for event in events(path) if event.HasField("session_log"))
  assert first.step == 1  # Steps of a start that left no checkpoint are dropped.
  assert any(tag == "lr/llm" for _, tag, _ in values)


def test_a_hidden_module_cannot_be_imported_within_the_block_alone(monkeypatch):
  monkeypatch.delitem(sys.modules, "wave", raising=False)
  with tensorboard.hidden_module("wave"):
    with pytest.raises(ImportError):
      importlib.import_module("wave")
  assert importlib.import_module("wave") is sys.modules["wave"]


def test_a_module_that_is_imported_already_is_not_hidden():
  with tensorboard.hidden_module("json"):
    assert importlib.import_module("json") is json
