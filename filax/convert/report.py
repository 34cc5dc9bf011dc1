# SPDX-License-Identifier: Apache-2.0
"""conversion_report.json: use, shape, dtype and sha256 of every tensor."""

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import platform
import sys
import time
from typing import Any

import numpy as np

from filax import processes
from filax.convert import torch_files

REPORT_FILE = "conversion_report.json"


class ConversionReport:
  """Collects facts while a conversion runs; `write_report` at its end."""

  def __init__(self, direction: str, **facts: Any):
    self.facts = {"direction": direction, **facts}
    self._tensors: list[dict[str, Any]] = []
    self._unused: list[dict[str, Any]] = []
    self._start = time.perf_counter()

  def add_tensor(self, name: str, parameter: str, x: np.ndarray) -> None:
    """Adds a PyTorch tensor and the parameter it belongs to."""
    row = dict(
      name=name,
      parameter=parameter,
      shape=list(x.shape),
      dtype=x.dtype.name,
      sha256=torch_files.array_sha256(x),
    )
    self._tensors.append(row)

  def add_unused(self, name: str, reason: str, shape) -> None:
    """Adds a source tensor that is unused by design."""
    self._unused.append(dict(name=name, reason=reason, shape=list(shape)))

  def count_on_terminal(self, items: Sequence[Any]) -> Iterator[Any]:
    """Yields the items; on a terminal, prints a progress line."""
    is_terminal = sys.stderr.isatty()
    for number, item in enumerate(items):
      if is_terminal:
        print(f"\r{number} of {len(items)} parameters", end="", file=sys.stderr, flush=True)
      yield item
    if is_terminal:
      print("\r\033[K", end="", file=sys.stderr, flush=True)

  def contents(self) -> dict[str, Any]:
    """The contents of the report file."""
    counts = dict(
      consumed=len(self._tensors),
      unused_by_design=len(self._unused),
      left_over=0,
      missing=0,
      drawn_anew=len(self.facts.get("drawn_anew", ())),
    )
    return {
      **self.facts,
      "counts": counts,
      "seconds": round(time.perf_counter() - self._start, 2),
      "peak_memory_bytes": processes.peak_memory(),
      "versions": _versions(),
      "unused": self._unused,
      "tensors": self._tensors,
    }

  def write_report(self, folder: Path) -> dict[str, Any]:
    """Writes the report into a folder, and returns it."""
    contents = self.contents()
    (folder / REPORT_FILE).write_text(json.dumps(contents, indent=1) + "\n")
    return contents


def _versions() -> dict[str, str]:
  versions = {"python": platform.python_version()}
  for name in ("jax", "flax", "orbax.checkpoint", "torch", "transformers"):
    if name in sys.modules:
      versions[name] = str(getattr(sys.modules[name], "__version__", "?"))
  return versions
