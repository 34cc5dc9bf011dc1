# SPDX-License-Identifier: Apache-2.0
"""Runs the groups of the GPU benchmark one after the other (benchmarks/gpu.sh).

Each group runs in a process of its own, which prints a line of JSON for every figure; so a group
has the whole memory of the GPU, and one that fails or is late loses nothing of the others.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks import machine
from benchmarks.gpu_work import FIGURE, MEMORY_SHARE, SIZES

LEAST = 15.0  # Seconds that are left when the last group starts.


@dataclasses.dataclass(frozen=True)
class Group:
  """Figures of one process: `side` is filax or torch."""

  name: str
  side: str
  seconds: float  # The process is ended after so long.

  @property
  def label(self) -> str:
    return f"{self.name} ({self.side})"


GROUPS = (  # What matters most comes first.
  Group("answer", "filax", 120),
  Group("answer", "torch", 70),
  Group("llm", "filax", 110),
  Group("llm", "torch", 80),
  Group("vision", "filax", 70),
  Group("vision", "torch", 60),
  Group("train", "filax", 80),
  Group("train", "torch", 60),
  Group("vision_compiled", "torch", 90),
  Group("train_compiled", "torch", 110),
)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs groups until the time is used up, and prints a table."""
  args = parse_gpu_arguments(argv)
  start = time.monotonic()
  report = Report(pathlib.Path(args.out), args.size)
  only = [name for name in args.only.split(",") if name]
  groups = [group for group in GROUPS if not only or group.name in only or group.side in only]
  for group in groups:
    left = args.seconds - (time.monotonic() - start)
    if left < LEAST:
      report.add_figure(dict(group=group.name, side=group.side, error="no time was left"))
      continue
    run_group(group, min(left, group.seconds), args, report)
  print("\n".join(report.lines()))


def parse_gpu_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  """The settings of a run."""
  parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
  parser.add_argument("--out", default="gpu.json", help="the JSON file")
  parser.add_argument("--size", choices=tuple(SIZES), default="full")
  parser.add_argument("--only", default="", help="names of groups or a side, with commas")
  parser.add_argument("--seconds", type=float, default=520.0, help="of the whole run")
  parser.add_argument("--platform", choices=("cuda", "cpu"), default="cuda")
  return parser.parse_args(argv)


class Report:
  """The JSON file, written again after every figure."""

  def __init__(self, path: pathlib.Path, size: str):
    self._path = path
    self._content: dict[str, Any] = dict(
      machine=machine.describe_machine(), gpu=gpu_name(), size=size, figures=[]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    self._write()

  def add_figure(self, figure: dict[str, Any]) -> None:
    """Adds a figure and writes the file."""
    self._content["figures"].append(figure)
    self._write()
    print(figure_line(figure), flush=True)

  def _write(self) -> None:
    text = json.dumps(self._content, indent=1) + "\n"
    temporary = self._path.with_suffix(".part")
    temporary.write_text(text)
    temporary.replace(self._path)

  def lines(self) -> list[str]:
    """A Markdown table: each figure of FiLax beside the best peer's."""
    figures = [figure for figure in self._content["figures"] if "seconds" in figure]
    ours = [figure for figure in figures if figure["side"] == "filax"]
    lines = ["| work | FiLax | best peer | time, ours ÷ theirs |", "|---|---|---|---|"]
    for figure in ours:
      peers = [
        other for other in figures if other["work"] == figure["work"] and other is not figure
      ]
      peer = min(peers, key=lambda other: other["seconds"], default=None)
      theirs = "-"
      ratio = "-"
      if peer is not None:
        theirs = f"{peer['seconds']:.4g} s ({peer['side']})"
        ratio = f"{figure['seconds'] / peer['seconds']:.2f}"
      lines.append(f"| {figure['work']} | {figure['seconds']:.4g} s | {theirs} | {ratio} |")
    return lines


def figure_line(figure: dict[str, Any]) -> str:
  """A figure as a line of text."""
  if "error" in figure:
    return f"{figure['group']} {figure['side']} {figure.get('work', '')}: {figure['error']}"
  rate = f"{figure['amount'] / figure['seconds']:,.1f} {figure['unit']}"
  further = {key: value for key, value in figure.items() if key not in _IN_THE_LINE}
  words = ", ".join(f"{key} {value:.4g}" for key, value in further.items())
  return f"{figure['side']} {figure['work']}: {figure['seconds']:.4g} s, {rate} {words}"


_IN_THE_LINE = ("group", "side", "work", "seconds", "amount", "unit", "rounds")


def gpu_name() -> str:
  """Name and driver of the GPU, as nvidia-smi gives them."""
  command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return "none"


def run_group(group: Group, seconds: float, args: argparse.Namespace, report: Report) -> None:
  """Runs a group's process and collects its figures.

  A process that is late is ended."""
  command = [sys.executable, "-m", "benchmarks.gpu_work", group.name, group.side, args.size]
  environment = os.environ | {
    "JAX_PLATFORMS": args.platform,
    "XLA_PYTHON_CLIENT_MEM_FRACTION": str(MEMORY_SHARE),
    "BENCHMARK_DEVICE": args.platform,
  }
  deadline = time.monotonic() + seconds
  process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
  lines: queue.Queue[str] = queue.Queue()
  threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
  base = dict(group=group.name, side=group.side)
  while True:
    try:
      line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
      process.kill()
      process.wait()
      report.add_figure(base | dict(error=f"ended after {seconds:.0f} s"))
      return
    if not line:
      break
    if line.startswith(FIGURE):
      report.add_figure(base | json.loads(line.removeprefix(FIGURE)))
  code = process.wait()
  if code:
    report.add_figure(base | dict(error=f"the process ended with code {code}"))


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
  """Puts lines of a process, then an empty one, into a queue."""
  assert process.stdout is not None
  for line in process.stdout:
    lines.put(line)
  lines.put("")


if __name__ == "__main__":
  main()
