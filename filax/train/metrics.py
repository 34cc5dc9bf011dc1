# SPDX-License-Identifier: Apache-2.0
"""What a run says about itself: a progress line, metrics.jsonl and TensorBoard.

The device works ahead of the host: numbers of a step are fetched one step later, so that looking at
them never makes it wait. Process 0 alone writes.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import json
import math
import pathlib
import sys
import time
from typing import Any

from etils import epath
import jax

from filax import files
from filax.costs import Costs
from filax.train import workdir as folder

PEAK_TFLOPS = {  # Part of jax.Device.device_kind -> dense bfloat16 peak of one device.
  "TPU v4": 275,
  "TPU v5 lite": 197,
  "TPU v5e": 197,
  "TPU v5": 459,
  "TPU v6": 918,
  "TPU7": 2307,
  "A100": 312,
  "H100": 989,
  "H200": 989,
  "B200": 2250,
}
SUMS = (  # Added up over steps.
  "tokens",
  "supervised",
  "frames",
  "images",
  "passed",
  "pairs",
  "left",
  "num_bad",
)


def peak_tflops(given: float, device: jax.Device) -> float | None:
  """`given` (config.peak_tflops), or the table's entry for the device; None if neither knows."""
  kinds = sorted((k for k in PEAK_TFLOPS if k in device.device_kind), key=len)
  return given or (PEAK_TFLOPS[kinds[-1]] if kinds else None)


class Compilations:
  """Counts what XLA compiles while it is in use, and the seconds that are spent in `timed`."""

  def __init__(self):
    self.count, self.seconds = 0, 0.0

  @contextlib.contextmanager
  def timed(self):
    """Around tracing and compiling, which rates leave out."""
    began = time.perf_counter()
    yield
    self.seconds += time.perf_counter() - began

  def __enter__(self):
    jax.monitoring.register_event_duration_secs_listener(self._heard)
    return self

  def __exit__(self, *_):
    jax.monitoring.unregister_event_duration_listener(self._heard)

  def _heard(self, event: str, seconds: float, **_):
    self.count += event.endswith("backend_compile_duration")


class Meter:
  """Turns the metrics of steps into records of rates since the record before.

  Time spent compiling is left out of the rates. `bad` is the number of bad samples so far.
  """

  def __init__(self, steps: int, costs: Costs | None, peak: float | None, compilations):
    self.steps, self.costs, self.compilations = steps, costs, compilations
    self.peak = peak and peak * 1e12 * jax.device_count()
    self.totals = dict.fromkeys(SUMS, 0.0)
    self.seconds = 0.0  # Since the meter was made, without compilation.
    self._window, self._count = dict.fromkeys(SUMS, 0.0), 0
    self._mark = (time.perf_counter(), compilations.seconds)

  def add(self, metrics: Mapping[str, float]) -> None:
    """Counts one step in."""
    self._count += 1
    for key in SUMS:
      self._window[key] += metrics[key]
      self.totals[key] += metrics[key]

  def record(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The record of `step`, whose own metrics are given; starts the next window."""
    seconds = self.stop()
    window, count = self._window, self._count
    self._window, self._count = dict.fromkeys(SUMS, 0.0), 0
    flops = self.costs.step(window) if self.costs else 0.0
    keys = ("loss", "accuracy", "grad_norm", "supervised", "tokens", "frames", "padding")
    return {
      "step": step,
      **{key: metrics[key] for key in keys},
      **{key: value for key, value in metrics.items() if key.startswith("lr/")},
      "tokens_per_second": window["tokens"] / seconds,
      "frames_per_second": (window["frames"] + window["images"]) / seconds,
      "seconds_per_step": seconds / max(count, 1),
      "mfu": flops / seconds / self.peak if flops and self.peak else None,
      "eta_seconds": (self.steps - step) * seconds / max(count, 1),
      "compilations": self.compilations.count,
      "num_bad": int(self.totals["num_bad"]),
    }

  def stop(self) -> float:
    """Seconds since the last call, counted into `seconds`."""
    now = (time.perf_counter(), self.compilations.seconds)
    seconds = max(now[0] - self._mark[0] - (now[1] - self._mark[1]), 1e-9)
    self._mark = now
    self.seconds += seconds
    return seconds


def line(record: Mapping[str, Any], steps: int) -> str:
  """A record as one line of text."""
  rates = " ".join(
    f"{key.removeprefix('lr/')} {value:.2e}"
    for key, value in record.items()
    if key.startswith("lr/")
  )
  mfu = "n/a" if record["mfu"] is None else f"{record['mfu']:.1%}"
  return (
    f"step {record['step']}/{steps} | loss {record['loss']:.4f} acc {record['accuracy']:.3f} "
    f"norm {record['grad_norm']:.3g} | lr {rates} | {record['tokens_per_second']:,.0f} tokens/s "
    f"{record['frames_per_second']:,.1f} frames/s | padding {record['padding']:.0%} | mfu {mfu} | "
    f"eta {_clock(record['eta_seconds'])} | compiled {record['compilations']} | "
    f"bad {record['num_bad']}"
  )


class Log:
  """Writes records to the terminal, `workdir`/metrics.jsonl and `workdir`/tensorboard (which stays
  on this machine if the workdir is a bucket).

  Lines of steps after `start` (a run that was killed wrote them) are dropped first: a step stands
  in the file once. `check` is called before each write, and raises if it may not be. Use as a
  context manager.
  """

  def __init__(
    self, workdir: epath.PathLike, start: int, steps: int, check: Callable[[], None] = lambda: None
  ):
    self.steps, self._workdir = steps, workdir
    self._check = check
    self._files = contextlib.ExitStack()
    self._lines = self._board = None
    if jax.process_index():
      return
    self._path = folder.fetch(workdir, "metrics.jsonl")
    _keep(self._path, start)
    self._lines = self._files.enter_context(self._path.open("a"))
    self._board = _summary_writer()(
      str(self._path.parent / "tensorboard"), purge_step=start + 1 if start else None, flush_secs=1
    )  # A thread writes: two minutes later the workdir may be another run's.
    self._files.callback(self._board.close)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._files.close()

  def write(self, record: Mapping[str, Any]) -> None:
    """One record, everywhere; complete on disk when this returns."""
    if self._lines is None:
      return
    self._check()
    print(line(record, self.steps), flush=True)
    self._lines.write(json.dumps(record) + "\n")
    self._lines.flush()
    folder.publish(self._workdir, self._path)
    for key, value in record.items():
      if key != "step" and value is not None and math.isfinite(value):
        self._board.add_scalar(key if "/" in key else f"train/{key}", value, record["step"])


def _summary_writer():
  """The class, imported by the one process that writes, and without torch, which it would import
  wherever there is one: seconds of every start, for types that never come."""
  absent = "torch" not in sys.modules
  if absent:
    sys.modules["torch"] = None
  try:
    from tensorboardX import SummaryWriter
  finally:
    if absent:
      del sys.modules["torch"]
  return SummaryWriter


def read_records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The records of a metrics.jsonl, in order.

  A line that is none is left out, and stderr says which: a bad byte, or the half of a line that a
  killed run leaves, ends nothing.
  """
  for number, text in enumerate(path.read_bytes().splitlines(), 1):
    try:
      record = json.loads(text.decode())
      sound = isinstance(record["step"], int)
    except (ValueError, LookupError, TypeError, RecursionError):
      sound = False
    if sound:
      yield record
    else:
      print(f"{path}, line {number} is damaged and is left out.", file=sys.stderr)


def _keep(path: pathlib.Path, last: int) -> None:
  """Rewrites a metrics.jsonl without the records of steps after `last`."""
  files.remove_leftovers(path.parent)
  if not path.exists():
    return
  kept = [record for record in read_records(path) if record["step"] <= last]
  with files.write_atomically(path) as file:
    for record in kept:
      file.write(json.dumps(record).encode() + b"\n")


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"
