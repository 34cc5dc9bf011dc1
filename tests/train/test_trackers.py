# SPDX-License-Identifier: Apache-2.0
"""Trackers: three methods, chosen by name, and none of them ends a run."""

import json
import sys
import types

import pytest

from filax.train import tracker, trackers
from filax.train.trackers import TrackedRun

RECORD = dict(
  step=1,
  loss=1.5,
  accuracy=0.5,
  grad_norm=1.0,
  tokens_per_second=1.0,
  frames_per_second=1.0,
  padding=0.0,
  mfu=None,
  eta_seconds=1.0,
  compilations=1,
  num_bad=0,
)


class Recorder:
  """A tracker that keeps its calls."""

  def __init__(self):
    self.calls = []

  def begin_run(self, run):
    self.calls.append(("begin_run", run))

  def track(self, step, values):
    self.calls.append(("track", step, dict(values)))

  def end_run(self):
    self.calls.append(("end_run",))


@pytest.fixture
def recorder(monkeypatch):
  kept = Recorder()
  monkeypatch.setitem(trackers.TRACKERS, "recorder", (lambda: kept, "json"))
  return kept


def log_one(folder, *names, **config):
  with tracker.MetricsLog(folder, 0, 9, trackers=names, config=config) as log:
    log.write_record(RECORD)
    log.write_scores(1, {"eval/q/accuracy": 0.5})


def test_a_tracker_gets_the_run_its_records_and_its_end(tmp_path, recorder):
  log_one(tmp_path, "recorder", seed=3)
  (_, run), first, second, last = recorder.calls
  assert (run.run_name, run.config, run.first) == (tmp_path.name, {"seed": 3}, 0)
  assert first[:2] == ("track", 1) and first[2]["loss"] == 1.5 and "step" not in first[2]
  assert second == ("track", 1, {"eval/q/accuracy": 0.5})
  assert last == ("end_run",)


def test_metrics_are_always_written(tmp_path):
  log_one(tmp_path)
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert rows == [RECORD, {"step": 1, "eval/q/accuracy": 0.5}]
  assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("method", ["begin_run", "track", "end_run"])
def test_a_failing_tracker_is_said_once(method, tmp_path, recorder, capsys):
  def fail(*args):
    raise ConnectionError("no\nnetwork")

  setattr(recorder, method, fail)
  log_one(tmp_path, "recorder")
  said = capsys.readouterr().err
  assert said == "The tracker recorder failed and is left out from here on: no network\n"
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_unknown_and_missing_trackers_are_named(tmp_path, monkeypatch):
  with pytest.raises(
    ValueError, match=r"names 'mlflow', which is unknown\. Choose from tensorboard"
  ):
    trackers.make_trackers(["mlflow"])
  monkeypatch.setitem(trackers.TRACKERS, "wandb", (trackers.WandB, "no_such_module"))
  with pytest.raises(ValueError, match=r"pip install 'filax\[wandb\]'"):
    trackers.make_trackers(["wandb"])


def test_nothing_is_imported_that_is_not_chosen(tmp_path):
  log_one(tmp_path)
  assert "wandb" not in sys.modules and "trackio" not in sys.modules


class HostedRun:
  """A run of wandb or trackio."""

  def __init__(self):
    self.logged = []
    self.finished = False

  def log(self, values, step):
    self.logged.append((step, values))

  def finish(self):
    self.finished = True


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_hosted_run_goes_on_after_a_restart(name, tmp_path, monkeypatch):
  """The package is replaced by one that keeps what it is given."""
  started = []

  def init(**options):
    started.append((options, HostedRun()))
    return started[-1][1]

  monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(init=init))
  make, _ = trackers.TRACKERS[name]
  for first in (0, 1):
    hosted = make()
    hosted.begin_run(TrackedRun(tmp_path, {"seed": 3}, first))
    hosted.track(first + 1, {"loss": 1.0, "mfu": None, "eval/q/accuracy": 0.5})
    hosted.end_run()
  (options, hosted_run), (again, _) = started
  assert options == again and options["resume"] == "allow" and options["config"] == {"seed": 3}
  assert hosted_run.logged == [(1, {"train/loss": 1.0, "eval/q/accuracy": 0.5})]
  assert hosted_run.finished
