# SPDX-License-Identifier: Apache-2.0
"""Runs the sides of a case in turn, each in a process of its own.

All sides of a case are prepared first. Then each round runs every side once, so that a change of
the machine's load meets all of them. The first repetition of a side (compilation, page faults) is
not counted.
"""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from typing import Any

from benchmarks import machine, scratch
from benchmarks.row import OURS, BenchmarkRow, Shape, Side, case_name, name_part
from filax import files, host_limits

ANSWER_SECONDS = 1800.0  # A side that answers later has failed.
LONG = 10.0  # Seconds of a repetition from which other numbers of threads are not tried.
PAUSE = 0.3  # Seconds between repetitions: threads of the side before stop spinning.


class Worker:
  """A process that runs one side of a case."""

  def __init__(self, row: BenchmarkRow, side: Side, shape: Shape, log: pathlib.Path, folder: str):
    self.side = side
    self.threads = host_limits.usable_cpus() if side.threads else None
    self.samples: list[dict[str, float]] = []
    self.error = ""
    self.ready = 0.0
    self.first = 0.0
    self._log = log
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    environment[scratch.CASE_FOLDER] = folder
    with log.open("w") as stderr:
      self._process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        text=True,
        cwd=pathlib.Path(__file__).parents[1],
      )
    self.send(dict(prepare=row.name, side=side.name, shape=dict(shape)))

  def send(self, request: Mapping[str, Any]) -> None:
    """Sends a request without waiting for the answer."""
    assert self._process.stdin is not None
    try:
      self._process.stdin.write(json.dumps(request) + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      self.error = self._last_words()

  def next_answer(self) -> dict[str, float]:
    """The next answer; empty if the side failed, and `error` says why."""
    if self.error:
      return {}
    assert self._process.stdout is not None
    ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
    if not ready:
      self.error = f"no answer in {ANSWER_SECONDS:.0f} s"
      self._process.kill()
      return {}
    line = self._process.stdout.readline()
    if not line:
      self.error = self._last_words()
      return {}
    answer = json.loads(line)
    self.error = answer.pop("error", "")
    return {} if self.error else answer

  def run_round(self) -> dict[str, float]:
    """One repetition, with what others did to the machine during it.

    A side that has failed is not asked again: its work would disturb the other sides.
    """
    if self.error:
      return {}
    busy_before = machine.busy_seconds()
    start = time.perf_counter()
    self.send(dict(run=True, threads=self.threads))
    answer = self.next_answer()
    if answer:
      wall = time.perf_counter() - start
      own = answer["cpu_seconds"] * answer["repetitions"]
      others = machine.busy_seconds() - busy_before - own
      answer["others"] = max(0.0, others / wall / host_limits.affinity_cpus())
    return answer

  def _last_words(self) -> str:
    code = self._process.wait()
    lines = self._log.read_text(errors="replace").strip().splitlines()
    return f"ended with code {code}: {lines[-1] if lines else 'it printed nothing'}"[:600]

  def stop(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.communicate()


def run_case(
  row: BenchmarkRow,
  shape: Shape,
  sides: Sequence[Side],
  repeats: int,
  budget: float,
  logs: pathlib.Path,
) -> dict[str, Any]:
  """Measures some sides of a row at one shape.

  `repeats` rounds are run, fewer (but at least 3) once `budget` seconds have passed. Returns the
  samples and errors of every side, and the load.
  """
  logs.mkdir(parents=True, exist_ok=True)
  workers = []
  start = time.monotonic()
  load = os.getloadavg()[0]
  scratch_folder = scratch.scratch_folder()
  files.remove_leftovers(scratch_folder)  # Of runs that were killed.
  folder = files.temporary_name(scratch_folder / "case")
  folder.mkdir()
  try:
    for side in sides:
      log = logs / f"{case_name(row, shape)}.{name_part(side.name)}.log"
      workers.append(Worker(row, side, shape, log, str(folder)))
    for worker in workers:
      worker.ready = worker.next_answer().get("ready", 0.0)
    for worker in workers:
      _warm_up(worker)
    rounds = 0
    while rounds < repeats:
      if rounds >= min(3, repeats) and time.monotonic() - start > budget:
        break
      for worker in workers:
        time.sleep(PAUSE)
        sample = worker.run_round()
        if sample:
          worker.samples.append(sample)
      rounds += 1
  finally:
    for worker in workers:
      worker.stop()
    shutil.rmtree(folder, ignore_errors=True)
  return dict(
    rounds=rounds,
    seconds=round(time.monotonic() - start, 1),
    load=[round(load, 2), round(os.getloadavg()[0], 2)],
    sides={worker.side.name: _record(worker) for worker in workers},
  )


def _warm_up(worker: Worker) -> None:
  """Warms a side up and chooses its number of threads."""
  first = worker.run_round()
  worker.first = first.get("seconds", 0.0)
  if not first or worker.threads is None or worker.threads == 1:
    return
  if worker.first > LONG:  # Long work is large work, which all cores share.
    return
  seconds = {worker.threads: worker.run_round().get("seconds", float("inf"))}
  for threads in sorted({max(1, worker.threads // 2), 1}):
    worker.threads = threads
    worker.run_round()  # torch.compile compiles anew for another number of threads.
    seconds[threads] = worker.run_round().get("seconds", float("inf"))
  worker.threads = min(seconds, key=lambda threads: seconds[threads])


def _record(worker: Worker) -> dict[str, Any]:
  record: dict[str, Any] = dict(samples=worker.samples)
  record["ready"] = round(worker.ready, 2)
  record["first"] = round(worker.first, 3)
  if worker.threads is not None:
    record["threads"] = worker.threads
  if worker.error:
    record["error"] = worker.error
  return record


def sides_that_run(row: BenchmarkRow, peers: bool) -> tuple[list[Side], dict[str, str]]:
  """(sides to run, side -> why it is left out)."""
  sides = []
  skipped = {}
  for side in row.sides:
    missing = side.missing()
    if not peers and side.name != OURS:
      skipped[side.name] = "--peers no"
    elif missing:
      skipped[side.name] = f"not installed: pip install {' '.join(missing)}"
    else:
      sides.append(side)
  return sides, skipped
