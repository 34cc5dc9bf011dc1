# SPDX-License-Identifier: Apache-2.0
"""Trackers: three methods, chosen by name, and none of them ends a run."""

import json
import shutil
import sys
import threading
import time
import types

import pytest

from filax.checkpoint import lease
from filax.testing import interrupted
from filax.train import run_tracker, tracker, trackers, workdir
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


@pytest.mark.parametrize("method", ["begin_run", "track"])
def test_a_tracker_that_recovers_gets_what_it_missed(
  method, tmp_path, recorder, monkeypatch, capsys
):
  works = getattr(recorder, method)

  def fail(*args):
    raise ConnectionError("no\nnetwork")

  monkeypatch.setattr(run_tracker, "_RETRY_SECONDS", 0.0)
  monkeypatch.setattr(recorder, method, fail)
  with tracker.MetricsLog(tmp_path, 0, 9, trackers=["recorder"]) as log:
    for step in (1, 2):
      log.write_record(dict(RECORD, step=step))
    monkeypatch.setattr(recorder, method, works)
    log.write_record(dict(RECORD, step=3))
  failed, recovered = capsys.readouterr().err.splitlines()
  assert failed == ("The tracker recorder failed, training goes on and tries it again: no network.")
  assert recovered == "The tracker recorder works again."
  kinds = [call[0] for call in recorder.calls]
  assert kinds == ["begin_run", "track", "track", "track", "end_run"]
  assert [call[1] for call in recorder.calls[1:4]] == [1, 2, 3]


def test_a_tracker_that_stays_broken_ends_no_run(tmp_path, recorder, capsys):
  def fail(*args):
    raise TimeoutError

  recorder.track = recorder.end_run = fail
  log_one(tmp_path, "recorder")
  failed, lost = capsys.readouterr().err.splitlines()
  assert failed.endswith("tries it again: TimeoutError.")
  assert lost == "The tracker recorder did not get 2 records."
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_disk_that_is_full_for_a_while_costs_no_record(tmp_path, monkeypatch, capsys):
  """Neither metrics.jsonl nor TensorBoard ends or blocks the run."""
  monkeypatch.setattr(run_tracker, "_RETRY_SECONDS", 0.0)
  with tracker.MetricsLog(tmp_path, 0, 9) as log:
    log.write_record(RECORD)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    with interrupted.full_disk(size + 40):  # Half of a line fits.
      for step in (2, 3):
        log.write_record(dict(RECORD, step=step))
    log.write_record(dict(RECORD, step=4))
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
  said = capsys.readouterr().err
  for name in ("metrics.jsonl", "tensorboard"):
    assert (
      f"The tracker {name} failed, training goes on and tries it again: File too large." in said
    )
    assert f"The tracker {name} works again." in said


class Bucket:
  """The calls of a publisher to a bucket that may be out of reach."""

  def __init__(self):
    self.error: Exception | None = None
    self.content = b""
    self.tried = threading.Event()

  def publish(self, workdir, path):
    try:
      if self.error is not None:
        raise self.error
      self.content = path.read_bytes()
    finally:
      self.tried.set()

  def next_try(self):
    self.tried.clear()
    assert self.tried.wait(60)

  def wait_for(self, content):
    """Waits until the content ends so."""
    last = time.monotonic() + 60
    while not self.content.endswith(content):
      assert time.monotonic() < last, self.content
      time.sleep(0.01)


def test_a_bucket_out_of_reach_gets_the_lines_later(tmp_path, monkeypatch, capsys):
  bucket = Bucket()
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(workdir, "publish_file", bucket.publish)
  monkeypatch.setattr(workdir, "_PAUSE_SECONDS", 0.0)
  monkeypatch.setattr(workdir, "_RETRY_SECONDS", 0.01)
  with workdir.Publisher("gs://tests/run") as publisher:
    path = workdir.local_folder("gs://tests/run") / "metrics.jsonl"
    path.write_bytes(b"1\n")
    bucket.error = RuntimeError("Server disconnected")  # The kind of aiohttp is no OSError.
    publisher.publish(path)
    bucket.next_try()
    bucket.next_try()
    publisher.check()
    path.write_bytes(b"1\n2\n")
    publisher.publish(path)
    bucket.error = None
  assert bucket.content == b"1\n2\n"
  failed, recovered = capsys.readouterr().err.splitlines()
  assert failed == (
    "gs://tests/run cannot be written, training goes on: Server disconnected. What is logged is "
    f"kept in {path.parent} and copied later."
  )
  assert recovered == "gs://tests/run can be written again."


@pytest.fixture
def rarely_copied(tmp_path, monkeypatch):
  """A bucket to which files are copied every ten minutes."""
  bucket = Bucket()
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(workdir, "publish_file", bucket.publish)
  monkeypatch.setattr(workdir, "_PAUSE_SECONDS", 600.0)
  monkeypatch.setattr(workdir, "_LONGEST_PAUSE_SECONDS", 600.0)
  return bucket


def test_a_checkpoint_ends_the_pause_between_copies(rarely_copied):
  """Another host may go on from it, and needs the lines before it."""
  path = workdir.local_folder("gs://tests/run") / "metrics.jsonl"
  with workdir.Publisher("gs://tests/run") as publisher:
    for content in (b"1\n", b"1\n2\n"):
      path.write_bytes(content)
      publisher.publish(path)
      publisher.hurry()
      rarely_copied.wait_for(content)


def test_the_scores_of_an_evaluation_are_copied_without_a_pause(rarely_copied, monkeypatch):
  """Another host does not repeat a finished evaluation, so it needs their line."""
  path = workdir.local_folder("gs://tests/run") / "metrics.jsonl"
  monkeypatch.setattr(trackers, "fetch_file", lambda *args, **more: path)  # The bucket is empty.
  with workdir.Publisher("gs://tests/run") as publisher:
    with tracker.MetricsLog("gs://tests/run", 0, 9, publisher, trackers=()) as log:
      for number in (1, 2):
        log.write_scores(number, {"scores/mine": 0.5})
        rarely_copied.wait_for(b'{"step": %d, "scores/mine": 0.5}\n' % number)


def test_a_long_file_is_copied_less_often():
  pauses = [workdir.pause_after_copy(seconds) for seconds in (0.01, 1.0, 30.0)]
  assert pauses == [2.0, 20.0, 60.0]


def test_a_lost_lease_ends_the_run_also_on_a_bucket(tmp_path, monkeypatch):
  bucket = Bucket()
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(workdir, "publish_file", bucket.publish)

  def check():
    raise lease.Lost("taken over")

  path = workdir.local_folder("gs://tests/run") / "metrics.jsonl"
  path.write_bytes(b"1\n")
  with workdir.Publisher("gs://tests/run", check) as publisher:
    publisher.publish(path)
  assert bucket.content == b""
  log = run_tracker.NeverFailing("metrics.jsonl", trackers.JsonLines(publisher))
  log.begin_run(TrackedRun(tmp_path, {}, 0))
  with pytest.raises(lease.Lost, match="taken over"):
    log.track(1, {})


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


def test_the_run_in_a_copied_workdir_has_a_name_of_its_own(tmp_path):
  (tmp_path / "run").mkdir()
  name = trackers._lasting_id(tmp_path / "run")
  shutil.copytree(tmp_path / "run", tmp_path / "copy")
  copied = trackers._lasting_id(tmp_path / "copy")
  assert name != copied == trackers._lasting_id(tmp_path / "copy")
  (tmp_path / "run").rename(tmp_path / "moved")
  assert trackers._lasting_id(tmp_path / "moved") == name
  (tmp_path / "moved" / "tracked_run.txt").write_text(name)  # As earlier versions wrote it.
  assert trackers._lasting_id(tmp_path / "moved") == name


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
