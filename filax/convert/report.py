# SPDX-License-Identifier: Apache-2.0
"""conversion_report.json: what became of every tensor, with its shape, dtype and sha256."""

from collections.abc import Iterator, Mapping, Sequence
import json
from pathlib import Path
import platform
import resource
import sys
import time
from typing import Any

import numpy as np

from filax.convert import torch_files

NAME = "conversion_report.json"


class Report:
  """Collects while a conversion runs; `write` at its end."""

  def __init__(self, direction: str, **facts: Any):
    self.facts = {"direction": direction, **facts}
    self._rows: list[dict[str, Any]] = []
    self._unused: list[dict[str, Any]] = []
    self._start = time.perf_counter()

  def tensor(self, name: str, parameter: str, x: np.ndarray) -> None:
    """A tensor of the PyTorch side that was read or written, and the parameter it belongs to."""
    self._rows.append(
      dict(
        name=name,
        parameter=parameter,
        shape=list(x.shape),
        dtype=x.dtype.name,
        sha256=torch_files.digest(x),
      )
    )

  def steps(self, items: Sequence[Any]) -> Iterator[Any]:
    """The items one by one; on a terminal, with a line that counts them."""
    shown = sys.stderr.isatty()
    for done, one in enumerate(items):
      if shown:
        print(f"\r{done} of {len(items)} parameters", end="", file=sys.stderr, flush=True)
      yield one
    if shown:
      print("\r\033[K", end="", file=sys.stderr, flush=True)

  def unused(self, name: str, reason: str, shape) -> None:
    """A tensor of the source that has no place by design."""
    self._unused.append(dict(name=name, reason=reason, shape=list(shape)))

  def as_dict(self) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if platform.system() == "Darwin" else 1024
    return {
      **self.facts,
      "counts": dict(
        consumed=len(self._rows),
        unused_by_design=len(self._unused),
        left_over=0,
        missing=0,
        drawn_anew=len(self.facts.get("drawn_anew", ())),
      ),
      "seconds": round(time.perf_counter() - self._start, 2),
      "peak_memory_bytes": peak * unit,
      "versions": _versions(),
      "unused": self._unused,
      "tensors": self._rows,
    }

  def write(self, folder: Path) -> Mapping[str, Any]:
    """Writes the report into a folder, and returns it."""
    found = self.as_dict()
    (folder / NAME).write_text(json.dumps(found, indent=1) + "\n")
    return found


def _versions() -> dict[str, str]:
  modules = ("jax", "flax", "orbax.checkpoint", "torch", "transformers")
  return {"python": platform.python_version()} | {
    name: str(getattr(sys.modules[name], "__version__", "?"))
    for name in modules
    if name in sys.modules
  }
