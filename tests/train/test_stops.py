# SPDX-License-Identifier: Apache-2.0
"""How a run ends before its last step: signals, loaders that fail or hang, other runs."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

from compile_flags import QUICK
import pytest

from filax.checkpoint import store
from filax.checkpoint.lease import Lease, Lost
from filax.cli import train
from filax.testing import row_source
from filax.train import fetch, hooks, loop, run, signals, watchdog

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


def made_run(workdir, mode, *more, **environment):
  """`filax train` on made rows, in a process group of its own."""
  path = f"{ROOT}:{ROOT}/tests/train"
  values = dict(JAX_PLATFORMS="cpu", XLA_FLAGS=QUICK, PYTHONPATH=path) | environment
  return subprocess.Popen(
    [
      sys.executable,
      "tests/train/made_run.py",
      mode,
      "--config",
      "tests/train/made_run.py",
      "--workdir",
      str(workdir),
      "--exit-when-stopped",
      "75",
      *more,
    ],
    cwd=ROOT,
    env=os.environ | values,
    text=True,
    start_new_session=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )


def reach(process, workdir, lines):
  """Returns when the run has logged that many steps."""
  path = workdir / "metrics.jsonl"
  while not path.exists() or path.read_text().count("\n") < lines:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.02)


def steps_of(workdir):
  return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


class HangingRows(row_source.RandomRows):
  """Gives `count` batches and then none, until the run closes it."""

  def __init__(self, count, then=lambda: None):
    super().__init__(8)
    self.count, self.then = count, then
    self.ended = threading.Event()

  def _batches(self, start):
    for number, batch in enumerate(super()._batches(start)):
      if number == self.count:
        self.then()
        self.ended.wait()
      yield batch


def send(number):
  os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_while_the_loader_hangs_saves(tmp_path, number):
  rows = HangingRows(3, lambda: send(number))
  summary = loop.train_pipeline(
    row_source.tiny_train_config(steps=5, checkpoint_every=100), tmp_path, rows
  )
  rows.ended.set()
  assert summary["stopped"] and summary["steps"] == 3
  assert steps_of(tmp_path) == [3]


@pytest.mark.parametrize("seconds, last", [(-1.0, 2), (1e9, 3)])
def test_no_step_is_queued_behind_a_long_one(tmp_path, monkeypatch, seconds, last):
  """A signal while step 2 runs: where steps are long, step 3 has not been dispatched."""
  monkeypatch.setattr(loop, "_LONG_STEP_SECONDS", seconds)
  look = loop.Loop._look

  def look_and_send(self):
    self._step_seconds = min(self._step_seconds, 1.0)
    if self._pending is not None and self._pending[0] == 2:
      send(signal.SIGTERM)
    look(self)

  monkeypatch.setattr(loop.Loop, "_look", look_and_send)
  config = row_source.tiny_train_config(steps=5, checkpoint_every=100)
  assert loop.train_pipeline(config, tmp_path, row_source.RandomRows(8))["steps"] == last


class LongEvaluation(hooks.Hook):
  """Evaluates after step 2; in the first start, a signal comes meanwhile."""

  def __init__(self, number=None):
    self.number = number
    self.asked = []
    self.recorded = []

  def wants_state(self, number):
    return number == 2

  def lacks_scores(self, number):
    return number == 2

  def evaluate(self, number, state):
    self.asked.append(number)
    if self.number is not None:
      send(self.number)
      pytest.fail("The signal did not end the evaluation.")
    return dict(score=1.0)

  def record_scores(self, number, scores):
    self.recorded.append(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_evaluation_which_is_repeated(tmp_path, number):
  config = row_source.tiny_train_config(steps=3, checkpoint_every=100)
  rows = row_source.RandomRows(8)
  ended = LongEvaluation(number)
  summary = loop.train_pipeline(config, tmp_path, rows, hooks=[ended])
  assert summary["stopped"] and steps_of(tmp_path) == [2]
  assert (ended.asked, ended.recorded) == ([2], [])
  resumed = LongEvaluation()
  assert loop.train_pipeline(config, tmp_path, row_source.RandomRows(8), hooks=[resumed])
  assert (resumed.asked, resumed.recorded) == ([2], [2])
  assert steps_of(tmp_path)[-1] == 3


def test_a_run_whose_last_evaluation_was_ended_is_to_be_started_again(tmp_path):
  config = row_source.tiny_train_config(steps=2, checkpoint_every=100)
  ended = LongEvaluation(signal.SIGTERM)
  summary = loop.train_pipeline(config, tmp_path, row_source.RandomRows(8), hooks=[ended])
  assert summary["stopped"] and summary["steps"] == 2
  resumed = LongEvaluation()
  summary = loop.train_pipeline(config, tmp_path, row_source.RandomRows(8), hooks=[resumed])
  assert (resumed.asked, resumed.recorded) == ([2], [2])
  assert not summary["stopped"]


def test_an_error_of_the_loader_after_a_signal_saves(tmp_path):
  """A signal to the group may end what the loader needs."""

  def fail(number, made):
    if number == 3 * 8:
      send(signal.SIGTERM)
      raise RuntimeError("a worker is gone")
    return made

  rows = row_source.RandomRows(8, change=fail)
  summary = loop.train_pipeline(
    row_source.tiny_train_config(steps=5, checkpoint_every=100), tmp_path, rows
  )
  assert summary["stopped"] and steps_of(tmp_path) == [3]


def test_an_error_of_the_loader_without_a_signal_is_raised(tmp_path):
  def fail(number, made):
    if number == 8:
      raise RuntimeError("broken")
    return made

  with pytest.raises(RuntimeError, match="broken"):
    loop.train_pipeline(
      row_source.tiny_train_config(steps=5), tmp_path, row_source.RandomRows(8, change=fail)
    )


def test_signals_are_blocked_where_workers_are_started():
  masks = []

  class Batches:
    def __enter__(self):
      return self

    def __exit__(self, *_):
      pass

    def __next__(self):
      masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
      return {}

  with fetch.Fetcher(Batches()) as fetcher:
    assert fetcher.fetch(lambda: True) == {}
  assert set(signals.Signals.KINDS) <= masks[0]


def test_a_signal_before_the_first_step_has_nothing_to_save(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(run, "open_data", lambda *_: send(signal.SIGTERM))
  before = signal.getsignal(signal.SIGTERM)
  argv = [f"--config={ROOT}/tests/train/made_run.py", f"--workdir={tmp_path}"]
  assert train.main(argv) == 0
  assert train.main([*argv, "--exit-when-stopped=7"]) == 7
  assert signal.getsignal(signal.SIGTERM) == before
  assert "nothing to save" in capsys.readouterr().err
  assert not (tmp_path / "lease.json").exists()


@pytest.mark.parametrize(
  "argv, expected",
  [
    (["a", "b"], (["a", "b"], 0)),
    (["a", "--exit-when-stopped", "75", "b"], (["a", "b"], 75)),
    (["--exit-when-stopped=3", "--exit-when-stopped=4"], ([], 4)),
  ],
)
def test_the_exit_code_is_a_flag(argv, expected):
  assert train.split_exit_code(argv) == expected


@pytest.mark.parametrize("text", ["", "-1", "256", "many", "²"])
def test_what_is_no_exit_code_is_refused(text):
  with pytest.raises(ValueError, match=r"--exit-when-stopped.*0 to 255"):
    train.split_exit_code([f"--exit-when-stopped={text}"])


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_saves_unless_nohup_says_otherwise(handler):
  before = signal.signal(signal.SIGHUP, handler)
  try:
    with signals.Signals() as received:
      received.defer()
      for _ in range(2):  # Both the terminal and its shell may send one.
        send(signal.SIGHUP)
      assert received.received == (handler == signal.SIG_DFL)
    assert signal.getsignal(signal.SIGHUP) == handler
  finally:
    signal.signal(signal.SIGHUP, before)


def test_a_run_whose_output_nobody_reads_goes_on():
  """The pipe of stdout loses its reader, as with `| tee` that is killed."""
  program = (
    "import os, sys\n"
    "from filax.cli.lasting_output import lasting_outputs\n"
    "with lasting_outputs():\n"
    "  for number in range(3):\n"
    "    print('step', number, flush=True)\n"
    "  os.close(2)\n"
    "  print('no output at all', file=sys.stderr, flush=True)\n"
    "os._exit(7)\n"
  )
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    stdout=writer,
    stderr=subprocess.PIPE,
    text=True,
    check=False,
  )
  os.close(writer)
  assert done.returncode == 7
  assert done.stderr == "Nobody reads this output any more; the work goes on.\n"


def test_a_second_signal_ends_the_process():
  with signals.Signals() as received:
    received.defer()
    send(signal.SIGINT)
    assert received.received and received.is_time(1) and received.is_time_while_waiting(1)
    with pytest.raises(KeyboardInterrupt):
      send(signal.SIGINT)
      time.sleep(5)


def test_a_run_that_lost_its_workdir_writes_nothing_more(tmp_path):
  """Another run took over while this one was stopped: neither numbers nor a checkpoint appear."""
  config = row_source.tiny_train_config(steps=5, checkpoint_every=3, log_every=1)
  with Lease(tmp_path) as lease:

    def lose(number, made):
      if number == 2 * 8:
        (tmp_path / "lease.json").unlink()
        (tmp_path / "lease.json").write_text("another's")
      return made

    with pytest.raises(Lost, match="writes nothing more"):
      loop.train_pipeline(config, tmp_path, row_source.RandomRows(8, change=lose), lease=lease)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert len(lines) <= 1 and steps_of(tmp_path) == []
  assert (tmp_path / "lease.json").read_text() == "another's"


def test_no_checkpoint_without_the_lease(tmp_path):
  def lost():
    raise Lost("gone")

  with pytest.raises(Lost):
    store.Checkpoints(tmp_path, check=lost)
  assert not list(tmp_path.iterdir())


def test_a_save_of_a_run_that_lost_its_workdir_stays_unfinished(tmp_path):
  """The lease went away while the save was written in the background."""
  looks = []

  def check():
    looks.append(threading.current_thread() is threading.main_thread())
    if not looks[-1]:
      raise Lost("gone")

  config = row_source.tiny_train_config(steps=5, checkpoint_every=100)
  with pytest.raises(Exception, match="gone"):
    lease = SimpleNamespace(check_held=check, check_before_save=check)
    loop.train_pipeline(config, tmp_path, row_source.RandomRows(8), lease=lease)
  assert not all(looks)
  assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]


def test_one_run_a_workdir_from_start_to_signal(tmp_path):
  """A second start is refused and disturbs nothing; SIGTERM to the group saves, and 75 says so."""
  first = made_run(tmp_path, "slow:3")
  reach(first, tmp_path, 2)
  lines = (tmp_path / "metrics.jsonl").read_text()
  second = made_run(tmp_path, "plain")
  _, said = second.communicate(timeout=120)
  assert second.returncode == 2 and "Traceback" not in said
  assert f"is in use by process {first.pid} on host" in said.splitlines()[-1]
  assert (tmp_path / "metrics.jsonl").read_text().startswith(lines)
  os.killpg(first.pid, signal.SIGTERM)
  _, said = first.communicate(timeout=120)
  assert first.returncode == 75 and "SIGTERM: saving" in said and "Stopped at step" in said
  assert len(steps_of(tmp_path)) == 1 and not (tmp_path / "lease.json").exists()


def test_a_run_without_steps_shows_where_it_stands(tmp_path):
  process = made_run(tmp_path, "hang:2", "--config.stall_seconds=2")
  _, said = process.communicate(timeout=240)
  assert process.returncode == watchdog.EXIT_CODE
  assert "config.stall_seconds" in said.splitlines()[-1]
  assert "made_run.py" in said and "most recent call first" in said  # The loader's own stack.


@contextlib.contextmanager
def begun(dog):
  """A watchdog that runs during the block."""
  dog.begin(None)
  yield dog
  dog.end(None)


def test_the_watchdog_leaves_out_what_takes_its_time():
  ends = []
  with begun(watchdog.Watchdog(0.6, ends.append)) as dog:
    for phase in (hooks.COMPILE, hooks.EVALUATE, hooks.SAVE):
      with dog.around(phase):
        time.sleep(0.7)
    for step in range(10):
      dog.dispatch(step)
      time.sleep(0.08)
    assert not ends
    deadline = time.monotonic() + 30
    while not ends and time.monotonic() < deadline:
      time.sleep(0.02)
  assert len(ends) == 1 and "after step 9" in ends[0]


def test_the_watchdog_can_be_off():
  with begun(watchdog.Watchdog(0, pytest.fail)) as dog:
    dog.dispatch(1)
    time.sleep(0.1)
  with pytest.raises(ValueError, match=r"config\.stall_seconds=-1"):
    watchdog.Watchdog(-1)
