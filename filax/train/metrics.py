# SPDX-License-Identifier: Apache-2.0
"""Metrics of a run: rates, MFU, compilations, progress line, metrics.jsonl.

The device works ahead of the host: the metrics of a step are fetched one step later, so that
fetching them never makes the device wait.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
import pathlib
import sys
import time
from typing import Any, Protocol

import jax

from filax import files
from filax.costs import Costs

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
SUMS = (  # Metrics that are summed over steps.
  "tokens",
  "supervised",
  "frames",
  "images",
  "passed",
  "pairs",
  "left",
  "num_bad",
)
SCORES = "eval/"  # Names of scores begin so: eval/NAME/SCORE, eval/NAME/SCORE/GROUP.
_OF_TOKENS = ("loss", "accuracy")  # Means over supervised tokens.
_OF_THE_STEP = ("grad_norm", "supervised", "tokens", "frames", "padding")


def peak_tflops(configured: float, device: jax.Device) -> float | None:
  """`configured` (config.peak_tflops), else the table's entry for the device, else None."""
  if configured:
    return configured
  kinds = [kind for kind in PEAK_TFLOPS if kind in device.device_kind]
  return PEAK_TFLOPS[max(kinds, key=len)] if kinds else None


class DeviceScalar(Protocol):
  """A jax.Array of one value, which may still be computed.

  jax's own types leave `is_ready` out.
  """

  def is_ready(self) -> bool:
    """Whether the value is computed."""
    ...


class Compilations:
  """Counts XLA compilations while in use, and the seconds in `timed`."""

  def __init__(self):
    self.count = 0
    self.seconds = 0.0

  @contextlib.contextmanager
  def timed(self):
    """A context around tracing and compiling, which rates leave out."""
    began = time.perf_counter()
    yield
    self.seconds += time.perf_counter() - began

  def __enter__(self):
    jax.monitoring.register_event_duration_secs_listener(self._on_event)
    return self

  def __exit__(self, *_):
    jax.monitoring.unregister_event_duration_listener(self._on_event)

  def _on_event(self, event: str, duration_secs: float, **_):
    self.count += event.endswith("backend_compile_duration")


class Meter:
  """Turns the metrics of steps into log records.

  Rates are those since the previous record. Time spent compiling is left out of the rates.
  `num_bad` is the number of bad samples so far, `idle_steps` that of steps without a supervised
  token, both over all starts of the run. Such a step has no loss and no accuracy: they are None.
  """

  def __init__(self, steps: int, costs: Costs | None, peak: float | None, compilations):
    self.steps = steps
    self.costs = costs
    self.compilations = compilations
    self.peak = peak and peak * 1e12 * jax.device_count()
    self.totals = dict.fromkeys(SUMS, 0.0)
    self.idle_steps = 0  # Without a supervised token.
    self._earlier: Mapping[str, int] = {}  # Counts of earlier starts.
    self.seconds = 0.0  # Since the meter was made, without compilation.
    self._window = dict.fromkeys(SUMS, 0.0)
    self._window_steps = 0
    self._lap_time = time.perf_counter()
    self._lap_compiling = compilations.seconds

  def count_step(self, metrics: Mapping[str, float]) -> None:
    """Counts one step."""
    self._window_steps += 1
    self.idle_steps += not metrics["supervised"]
    for key in SUMS:
      self._window[key] += metrics[key]
      self.totals[key] += metrics[key]

  def add_earlier(self, counts: Mapping[str, int]) -> None:
    """Adds the `counts` of earlier starts."""
    self._earlier = counts

  def counts(self) -> dict[str, int]:
    """Bad samples and idle steps of all starts."""
    here = dict(num_bad=int(self.totals["num_bad"]), idle_steps=self.idle_steps)
    return {name: count + self._earlier.get(name, 0) for name, count in here.items()}

  def record(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The record of `step`; starts the next window.

    metrics: those of this step.
    """
    seconds = self.lap()
    window = self._window
    count = max(self._window_steps, 1)
    self._window = dict.fromkeys(SUMS, 0.0)
    self._window_steps = 0
    flops = self.costs.step_flops(window) if self.costs else 0.0
    record: dict[str, Any] = {"step": step}
    for key in _OF_TOKENS:
      record[key] = metric_of_tokens(metrics, key)
    for key in _OF_THE_STEP:
      record[key] = metrics[key]
    for key, value in metrics.items():
      if key.startswith("lr/"):
        record[key] = value
    record["tokens_per_second"] = window["tokens"] / seconds
    record["frames_per_second"] = (window["frames"] + window["images"]) / seconds
    record["seconds_per_step"] = seconds / count
    record["mfu"] = flops / seconds / self.peak if flops and self.peak else None
    record["eta_seconds"] = (self.steps - step) * seconds / count
    record["compilations"] = self.compilations.count
    return record | self.counts()

  def lap(self) -> float:
    """Seconds since the last call, without compilation; added to `seconds`."""
    now = time.perf_counter()
    compiling = self.compilations.seconds
    elapsed = now - self._lap_time - (compiling - self._lap_compiling)
    self._lap_time = now
    self._lap_compiling = compiling
    seconds = max(elapsed, 1e-9)
    self.seconds += seconds
    return seconds


def metric_of_tokens(metrics: Mapping[str, float], key: str) -> float | None:
  """A mean over the supervised tokens of a step.

  It is None if there were none.
  """
  return metrics[key] if metrics["supervised"] else None


def shown(value: float | None, digits: int) -> str:
  """A value as text, "n/a" for None."""
  return "n/a" if value is None else f"{value:.{digits}f}"


def progress_line(record: Mapping[str, Any], steps: int) -> str:
  """A record as one line of text."""
  rates = []
  for key, value in record.items():
    if key.startswith("lr/"):
      rates.append(f"{key.removeprefix('lr/')} {value:.2e}")
  mfu = "n/a" if record["mfu"] is None else f"{record['mfu']:.1%}"
  fields = [
    f"step {record['step']}/{steps}",
    f"loss {shown(record['loss'], 4)} acc {shown(record['accuracy'], 3)} "
    f"norm {record['grad_norm']:.3g}",
    f"lr {' '.join(rates)}",
    f"{record['tokens_per_second']:,.0f} tokens/s {record['frames_per_second']:,.1f} frames/s",
    f"padding {record['padding']:.0%}",
    f"mfu {mfu}",
    f"eta {_clock(record['eta_seconds'])}",
    f"compiled {record['compilations']}",
    f"bad {record['num_bad']}",
  ]
  if record.get("idle_steps"):
    fields.append(f"steps without a supervised token {record['idle_steps']}")
  return " | ".join(fields)


def scores_line(step: int, steps: int, scores: Mapping[str, float]) -> str:
  """Scores as one line of text, without those of groups."""
  fields = [f"step {step}/{steps}"]
  for name, value in scores.items():
    if name.count("/") == 2:
      fields.append(f"{name} {value:.4g}")
  return " | ".join(fields)


def read_records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The records of a metrics.jsonl, in order.

  A damaged line (a bad byte, or half of a line that a killed run left) is skipped and named on
  stderr. One line at a time is in memory.
  """
  for _, record in _lines_and_records(path):
    yield record


def drop_records_after(path: pathlib.Path, step: int) -> None:
  """Rewrites a metrics.jsonl without the records of steps after `step`."""
  files.remove_leftovers(path.parent)
  if not path.exists():
    return
  with files.write_atomically(path) as file:
    for line, record in _lines_and_records(path):
      if record["step"] <= step:
        file.write(line.rstrip(b"\r\n") + b"\n")


def _lines_and_records(path: pathlib.Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
  """Each sound line of a metrics.jsonl, and its record."""
  with path.open("rb") as lines:
    for number, line in enumerate(lines, 1):
      record = _parse_record(line)
      if record is None:
        print(f"{path}, line {number} is damaged and is left out.", file=sys.stderr)
      else:
        yield line, record


def _parse_record(text: bytes) -> dict[str, Any] | None:
  """The record of a line; None if it is damaged."""
  try:
    record = json.loads(text.decode())
    return record if isinstance(record["step"], int) else None
  except (ValueError, LookupError, TypeError, RecursionError):
    return None


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"
