# SPDX-License-Identifier: Apache-2.0
"""Hooks: when they are called, with what, and what their errors do."""

import gc
import json

from absl import logging
import jax
import numpy as np
import pytest

from filax.checkpoint import store
from filax.testing import row_source
from filax.train import hooks, loop, memory, run, signals, step

pytestmark = pytest.mark.slow


class Recorder(hooks.Hook):
  """Writes down every call, and evaluates after some steps."""

  def __init__(self, evaluates=()):
    self.calls = []
    self.metrics = {}
    self.params = {}
    self._evaluates = evaluates

  def begin(self, run):
    self.run = run
    self.calls.append(("begin", run.first))

  def dispatch(self, number):
    self.calls.append(("dispatch", number))

  def step(self, number, metrics):
    self.metrics[number] = metrics
    self.calls.append(("step", number))

  def wants_state(self, number):
    return number in self._evaluates

  def evaluate(self, number, state):
    self.params[number] = jax.device_get(state.params)
    self.calls.append(("evaluate", number))

  def save(self, number):
    self.calls.append(("save", number))

  def end(self, error):
    self.calls.append(("end", error))


def lines(folder):
  return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def train(folder, *more, **changes):
  config = row_source.tiny_train_config(**dict(steps=4, checkpoint_every=2) | changes)
  return loop.train_pipeline(config, folder, row_source.RandomRows(8), hooks=more)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
  """A run of four steps with an evaluation after steps 2 and 3, its recorder and its folder."""
  folder = tmp_path_factory.mktemp("recorded")
  recorder = Recorder(evaluates=(2, 3))
  train(folder, recorder)
  return recorder, folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  """The folder of the same run without hooks."""
  folder = tmp_path_factory.mktemp("plain")
  train(folder)
  return folder


def test_the_order_of_calls(recorded):
  recorder, _ = recorded
  assert recorder.calls == [
    ("begin", 0),
    ("dispatch", 1),
    ("step", 1),
    ("dispatch", 2),
    ("step", 2),
    ("save", 2),
    ("evaluate", 2),
    ("dispatch", 3),
    ("step", 3),
    ("evaluate", 3),
    ("dispatch", 4),
    ("step", 4),
    ("save", 4),
    ("end", None),
  ]


def test_begin_gets_the_facts_of_the_run(recorded):
  recorder, folder = recorded
  run = recorder.run
  assert (run.workdir, run.first, run.steps) == (folder, 0, 4)
  assert run.config["batch"] == 8 and run.setup.model is not None


def test_metrics_are_those_of_the_log(recorded):
  recorder, folder = recorded
  for record in lines(folder):
    assert recorder.metrics[record["step"]]["loss"] == record["loss"]


def test_an_evaluation_sees_the_parameters_after_its_step(recorded):
  recorder, folder = recorded
  saved, _, _ = store.restore_params(folder / "checkpoints" / "2")
  jax.tree.map(np.testing.assert_array_equal, recorder.params[2], saved)


def test_hooks_change_no_loss(recorded, plain):
  _, folder = recorded
  keys = ("step", "loss", "grad_norm")
  for ours, theirs in zip(lines(folder), lines(plain), strict=True):
    assert [ours[key] for key in keys] == [theirs[key] for key in keys]


def test_a_finished_run_begins_and_ends(recorded):
  _, folder = recorded
  recorder = Recorder()
  train(folder, recorder)
  assert recorder.calls == [("begin", 4), ("end", None)]


def test_train_takes_hooks(tmp_path, monkeypatch):
  """The call of a Python user, on made rows."""
  rows = row_source.RandomRows(8)
  rows.ingredients = {}
  monkeypatch.setattr(run, "open_data", lambda config, workdir, check_lease: rows)
  monkeypatch.setattr(run.storage, "quiet_background_writes", lambda: None)
  recorder = Recorder()
  verbosity = logging.get_verbosity()
  with signals.Signals() as received:
    config = row_source.tiny_train_config(steps=4)
    summary = run.train(config, str(tmp_path), received, hooks=(recorder,))
  assert summary["steps"] == 4 and sorted(recorder.metrics) == [1, 2, 3, 4]
  assert recorder.calls[:2] == [("begin", 0), ("dispatch", 1)]
  assert recorder.calls[-2:] == [("save", 4), ("end", None)]
  assert logging.get_verbosity() == verbosity, "the log is the user's again"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(wramup=0.5), "config.wramup is set, but there is no such setting"),
    (dict(evals=(("held.json", 2, 0),)), r"no hook evaluates. Call filax\.run_training"),
  ],
)
def test_train_refuses_what_would_have_no_effect(change, message, tmp_path):
  config = row_source.tiny_train_config().unlock()
  config.update(change)
  with signals.Signals() as received, pytest.raises(ValueError, match=message):
    run.train(config, str(tmp_path), received)


class Failing(hooks.Hook):
  """Raises in one of its methods."""

  def __init__(self, method):
    self._method = method

  def begin(self, run):
    self._fail("begin")

  def step(self, number, metrics):
    if number == 2:
      self._fail("step")

  def end(self, error):
    self._fail("end")

  def _fail(self, method):
    if method == self._method:
      raise RuntimeError(f"{method} failed")


def test_an_error_of_a_step_ends_the_run_and_saves_nothing_more(tmp_path):
  recorder = Recorder()
  with pytest.raises(RuntimeError, match="step failed"):
    train(tmp_path, recorder, Failing("step"), checkpoint_every=1)
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
  name, error = recorder.calls[-1]
  assert name == "end" and str(error) == "step failed", "end gets the error of the run"


def test_an_error_of_begin_ends_those_that_had_begun(tmp_path):
  before = Recorder()
  after = Recorder()
  with pytest.raises(RuntimeError, match="begin failed"):
    train(tmp_path, before, Failing("begin"), after)
  assert [name for name, _ in before.calls] == ["begin", "end"]
  assert after.calls == []


def test_an_error_of_end_comes_after_the_last_checkpoint(tmp_path):
  recorder = Recorder()
  with pytest.raises(RuntimeError, match="end failed"):
    train(tmp_path, Failing("end"), recorder)
  assert recorder.calls[-1] == ("end", None)
  assert (tmp_path / "checkpoints" / "4").exists()


def test_the_example_of_the_contract_runs(tmp_path, capsys):
  """The evaluator in the docstring of filax/train/hooks.py, every second step."""

  class HeldOutLoss(hooks.Hook):
    def __init__(self, rows):
      self._rows = rows

    def begin(self, run):
      self._loss = jax.jit(step.make_loss(run.setup.model))

    def wants_state(self, number):
      return number % 2 == 0

    def evaluate(self, number, state):
      total, sums = self._loss(state.params, self._rows, jax.random.key(0))
      print(f"step {number}: held-out loss {total / sums['count']:.4f}")

  train(tmp_path, HeldOutLoss(row_source.random_batch(8, first=1000)))
  printed = capsys.readouterr().out
  assert "step 2: held-out loss" in printed and "step 4: held-out loss" in printed


def test_garbage_is_collected_on_schedule_alone():
  collection = memory.GarbageCollection(every=2)
  assert gc.isenabled()
  collection.begin(None)
  assert not gc.isenabled()
  cycle = []
  cycle.append(cycle)
  del cycle
  collection.step(1, {})
  before = gc.get_stats()[2]["collections"]
  collection.step(2, {})
  assert gc.get_stats()[2]["collections"] == before + 1
  collection.end(None)
  assert gc.isenabled()


def test_the_memory_line_names_the_fullest_device():
  gib = 2**30
  statistics = [
    dict(bytes_in_use=gib, peak_bytes_in_use=2 * gib, bytes_limit=16 * gib),
    dict(bytes_in_use=3 * gib, peak_bytes_in_use=5 * gib, bytes_limit=16 * gib),
  ]
  line = memory.memory_line(7, statistics)
  assert line == "step 7: 3.0 GiB in use, 5.0 GiB at most, of 16.0 GiB on the fullest of 2 devices"


def test_devices_without_statistics_have_no_line(capsys):
  assert memory.memory_line(7, []) == ""
  memory.MemoryLines(every=1).step(1, {})
  assert capsys.readouterr().err == ""
