# SPDX-License-Identifier: Apache-2.0
"""Logs a run: progress line, metrics.jsonl and the trackers.

Process 0 alone writes.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
from typing import Any

from etils import epath
import jax

from filax.train import goodput, hooks, metrics
from filax.train.run_tracker import NeverFailing, RunTracker, TrackedRun
from filax.train.trackers import JsonLines, make_trackers
from filax.train.workdir import Publisher, fetch_file


class MetricsLog:
  """Writes records to the terminal, `workdir`/metrics.jsonl and the trackers.

  publisher: checks the lease, and copies the file to a bucket. trackers: names of
  filax.train.trackers.TRACKERS. config: that of the run, for trackers that show it. Use as a
  context manager. Raises ValueError for an unknown tracker.
  """

  def __init__(
    self,
    workdir: epath.PathLike,
    first: int,
    steps: int,
    publisher: Publisher | None = None,
    trackers: Sequence[str] = ("tensorboard",),
    config: Mapping[str, Any] | None = None,
  ):
    self._steps = steps
    self._publisher = publisher or Publisher(workdir)
    self._trackers: list[RunTracker] = []  # Empty on all processes but the first.
    if jax.process_index():
      return
    run = TrackedRun(workdir, config or {}, first)
    lines = NeverFailing("metrics.jsonl", JsonLines(self._publisher))
    for tracker in (lines, *make_trackers(trackers)):
      tracker.begin_run(run)
      self._trackers.append(tracker)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for tracker in self._trackers:
      tracker.end_run()

  def write_record(self, record: Mapping[str, Any]) -> None:
    """Writes one record everywhere.

    It is complete on disk when this returns, if there is room. Raises lease.Lost.
    """
    self._write(record, metrics.progress_line(record, self._steps))

  def write_scores(self, number: int, scores: Mapping[str, float]) -> None:
    """Writes the scores of an evaluation as a record of their own.

    They are copied to a bucket without a pause: after a restart, a finished evaluation is not
    repeated, so its scores would not be written again.
    """
    line = metrics.scores_line(number, self._steps, scores)
    self._write({"step": number, **scores}, line)
    self._publisher.hurry()

  def _write(self, record: Mapping[str, Any], line: str) -> None:
    if not self._trackers:
      return
    print(line, flush=True)
    values = {key: value for key, value in record.items() if key != "step"}
    for tracker in self._trackers:
      tracker.track(record["step"], values)


def open_log(run: hooks.RunFacts, publisher: Publisher) -> MetricsLog:
  """The log of a run; configs before there were trackers have TensorBoard's."""
  trackers = run.config.get("trackers", ("tensorboard",))
  return MetricsLog(run.workdir, run.first, run.steps, publisher, trackers, run.config)


def read_scores(workdir: epath.PathLike) -> dict[int, dict[str, float]]:
  """Step -> scores of the evaluations in metrics.jsonl."""
  path = fetch_file(workdir, "metrics.jsonl", grows=True)
  scores: dict[int, dict[str, float]] = {}
  if not path.exists():
    return scores
  for record in metrics.read_records(path):
    for name, value in record.items():
      if name.startswith(metrics.SCORES) and isinstance(value, int | float):
        scores.setdefault(record["step"], {})[name] = value
  return scores


class Tracker(hooks.Hook):
  """Logs every `every`-th step and the last one; summarises the run.

  spent: where the time of the run went.
  """

  def __init__(
    self,
    log: MetricsLog,
    meter: metrics.Meter,
    every: int,
    spent: goodput.GoodputFile,
  ):
    self._log = log
    self._meter = meter
    self._every = every
    self._spent = spent
    self._logged = 0  # The newest step with a record.
    self._host_seconds: Mapping[str, float] = {}  # Host seconds of the newest record.
    self._first = 0
    self._done = 0
    self._last: Mapping[str, float] = {}  # Metrics of the newest step.

  def begin(self, run: hooks.RunFacts) -> None:
    self._first = run.first
    self._done = run.first
    self._logged = run.first

  def step(self, number: int, metrics: Mapping[str, float]) -> None:
    self._last = metrics
    self._done = number
    self._meter.count_step(metrics)
    if number % self._every == 0 or number == self._meter.steps:
      self._write_record(number, metrics)
    self._spent.write_if_due()

  def _write_record(self, number: int, metrics: Mapping[str, float]) -> None:
    record = self._meter.record(number, metrics)
    self._host_seconds = self._spent.clock.host.take(number - self._logged)
    self._logged = number
    for task, seconds in self._host_seconds.items():
      record[f"host/{task}"] = seconds
    spent = self._spent.clock.seconds()
    for phase, seconds in spent.items():
      record[f"seconds/{phase}"] = seconds
    record["goodput"] = goodput.goodput(spent)
    self._log.write_record(record)

  def save(self, number: int) -> None:
    self._spent.note_save(number, self._meter.counts())

  def end(self, error: BaseException | None) -> None:
    self._spent.write()

  def record_scores(self, number: int, scores: Mapping[str, float]) -> None:
    self._log.write_scores(number, scores)

  @contextlib.contextmanager
  def around(self, phase: str) -> Iterator[None]:
    with self._spent.clock.timed(phase), contextlib.ExitStack() as left_out:
      if phase in (hooks.COMPILE, hooks.EVALUATE):  # Rates leave these out.
        left_out.enter_context(self._meter.compilations.timed())
      yield

  def summary(self, ended_block: bool = False) -> dict[str, Any]:
    """The summary of the run since its start.

    Call it once, after the last step. ended_block: whether a signal ended an evaluation. Such a run
    counts as stopped even after its last step, so that it is started again and evaluates.
    """
    self._meter.lap()
    totals = self._meter.totals
    seconds = self._meter.seconds
    return {
      "first_step": self._first,
      "steps": self._done,
      "stopped": ended_block or self._done < self._meter.steps,
      "loss": metrics.metric_of_tokens(self._last, "loss") if self._last else None,
      "seconds": seconds,
      "frames": int(totals["frames"]),
      "frames_per_second": totals["frames"] / seconds,
      "tokens": int(totals["tokens"]),
      "tokens_per_second": totals["tokens"] / seconds,
      "num_bad": int(totals["num_bad"]),
      "compilations": self._meter.compilations.count,
      "host_seconds_per_step": dict(self._host_seconds),
    }
