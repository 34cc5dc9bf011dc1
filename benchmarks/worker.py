# SPDX-License-Identifier: Apache-2.0
"""A process that runs one side of a case, a repetition for each line it reads.

Started by benchmarks/harness.py. It reads lines of JSON and answers each with a line of JSON:

  {"prepare": "decode_tied", "side": "filax", "shape": {"context": 64}}  ->  {"ready": 3.2}
  {"run": true, "threads": 2}  ->  {"seconds": 0.4, "amount": 16, "cpu_seconds": 0.7, ...}

An exception becomes {"error": "..."}. Whatever libraries print goes to stderr.
"""

from collections.abc import Mapping
import contextlib
import gc
import json
import os
import resource
import sys
import time
from typing import Any, TextIO

from benchmarks.row import Repetition, all_rows
from filax import processes

SHORT = 0.25  # Work of less than so many seconds is repeated,
REPEATED = 0.5  # for so many seconds.


def main() -> None:
  """Answers requests until stdin ends."""
  answers = _own_stdout()
  repetition: Repetition | None = None
  for line in sys.stdin:
    request = json.loads(line)
    try:
      if "prepare" in request:
        start = time.perf_counter()
        repetition = prepare_side(request)
        answer = dict(ready=time.perf_counter() - start)
      elif repetition is None:
        answer = dict(error="Nothing was prepared.")
      else:
        answer = run_once(repetition, request.get("threads"))
    except Exception as error:
      answer = dict(error=f"{type(error).__name__}: {error}"[:600])
    print(json.dumps(answer), file=answers, flush=True)


def _own_stdout() -> TextIO:
  """The pipe of the answers; other prints go to stderr."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  return answers


def prepare_side(request: Mapping[str, Any]) -> Repetition:
  """Builds the repetition of a row's side."""
  row = all_rows()[request["prepare"]]
  (side,) = [side for side in row.sides if side.name == request["side"]]
  return side.prepare(**request["shape"])


def run_once(repetition: Repetition, threads: int | None) -> dict[str, float]:
  """The figures of a repetition, its CPU seconds and peak memory.

  Short work is repeated, and the repetition of median time counts: the threads of both JAX and
  PyTorch sleep between rounds, and waking them would take a large share of a few milliseconds.
  """
  if threads:
    import torch

    torch.set_num_threads(threads)
  gc.collect()
  cpu_before = cpu_seconds()
  end = time.perf_counter() + REPEATED
  calls = [dict(repetition())]
  while calls[0]["seconds"] < SHORT and time.perf_counter() < end:
    calls.append(dict(repetition()))
  calls.sort(key=lambda call: call["seconds"])
  figures = calls[len(calls) // 2]
  figures.setdefault("amount", 1)
  figures["repetitions"] = len(calls)
  figures["cpu_seconds"] = (cpu_seconds() - cpu_before) / len(calls)
  figures["peak_mib"] = peak_mib()
  return figures


def peak_mib() -> float:
  """The largest memory of this process or an ended child."""
  children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
  return max(processes.peak_memory() / 2**20, children)


def cpu_seconds() -> float:
  """CPU seconds of this process and of its ended children."""
  total = 0.0
  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
    usage = resource.getrusage(who)
    total += usage.ru_utime + usage.ru_stime
  return total


if __name__ == "__main__":
  with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
    main()
