# SPDX-License-Identifier: Apache-2.0
"""The report file of an evaluation, updated during the run."""

from collections.abc import Callable
import json
import os
import time
from typing import Any

from filax import files

KEEP_SECONDS = 5.0  # Minimum time between two writes during a run.


class NothingScored(ValueError):
  """No question of a manifest could be scored.

  `report` lists the reasons.
  """

  def __init__(self, report: dict[str, Any]):
    self.report = report
    reasons = [*report["bad_questions"], *report["bad_media"].values()]
    super().__init__(
      f"None of the {report['skipped']} questions of {report['manifest']} could be scored; the "
      f"first reason: {reasons[0]}"
    )


class ReportFile:
  """The file of a report; `summary` gives the report so far."""

  def __init__(self, summary: Callable[[], dict[str, Any]], path: str | os.PathLike):
    self._summary = summary
    self._path = path
    self._written = -KEEP_SECONDS

  def refresh(self) -> None:
    """Writes the report periodically, so a killed run leaves its answers."""
    if time.monotonic() - self._written >= KEEP_SECONDS:
      self.write_report()
      self._written = time.monotonic()

  def write_report(self) -> None:
    """Writes the report if it has a path. Raises OSError."""
    if not self._path:
      return
    with files.write_atomically(self._path) as file:
      text = json.dumps(self._summary(), indent=2) + "\n"
      file.write(text.encode())
