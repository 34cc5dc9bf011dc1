# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation as a file that is there while answers come."""

import json
import os
import time
from typing import Any

from filax import files

KEEP_SECONDS = 5.0  # Between two writes of the report of a run that goes on.


class NothingScored(ValueError):
  """No question of a manifest could be scored. `report` says what was wrong with each."""

  def __init__(self, report: dict[str, Any]):
    self.report = report
    reasons = [*report["bad_questions"], *report["bad_media"].values()]
    super().__init__(
      f"None of the {report['skipped']} questions of {report['manifest']} could be scored; the "
      f"first reason: {reasons[0]}"
    )


class ReportFile:
  """The report of a run, and the file that it is written to while answers come."""

  def __init__(self, run, path: str, bad_records: list[str], out: str | os.PathLike):
    self._run = run
    self._path = path
    self._bad_records = bad_records
    self._out = out
    self._written = -KEEP_SECONDS

  def report(self) -> dict[str, Any]:
    """What `evaluate` returns, as far as the run has come."""
    return self._run.summary(self._path) | dict(bad_records=self._bad_records)

  def refresh(self) -> None:
    """Writes the report now and then, so that a killed run leaves what it has."""
    if time.monotonic() - self._written >= KEEP_SECONDS:
      self.write()
      self._written = time.monotonic()

  def write(self) -> None:
    """Writes the report if there is a file for it. Raises OSError."""
    if not self._out:
      return
    with files.write_atomically(self._out) as file:
      file.write((json.dumps(self.report(), indent=2) + "\n").encode())
