# SPDX-License-Identifier: Apache-2.0
"""Counts of checks that were made and that failed, with a few examples of each."""

from collections import Counter
from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from data_pipelines.manifest.excerpts import excerpt, one_line

EXAMPLES = 5  # Kept of each check.


@dataclasses.dataclass(frozen=True)
class Failure:
  """One failed check, with the file and line of its record."""

  check: str
  file: str
  line: int  # 0: the file as a whole.
  record: str  # The record's id.
  reason: str

  def __str__(self) -> str:
    place = f"{self.file}:{self.line}" if self.line else self.file
    name = f" ({self.record})" if self.record else ""
    return one_line(f"{place}{name}: {self.check}: {self.reason}")


@dataclasses.dataclass
class Verdicts:
  """What was checked and what failed, by check."""

  made: Counter[str] = dataclasses.field(default_factory=Counter)
  failed: Counter[str] = dataclasses.field(default_factory=Counter)
  examples: dict[str, list[Failure]] = dataclasses.field(default_factory=dict)
  file: str = ""  # Where the next checks are made.
  line: int = 0
  record: str = ""

  def at(self, file: str, line: int = 0, record: str = "") -> None:
    """Sets the place of the next checks."""
    self.file = file
    self.line = line
    self.record = record

  def expect(self, check: str, holds: object, reason: str, *values: object) -> bool:
    """Counts a check.

    reason: why it failed, with {} for the excerpts of `values`. Returns whether it holds.
    """
    self.made[check] += 1
    if holds:
      return True
    self.failed[check] += 1
    examples = self.examples.setdefault(check, [])
    if len(examples) < EXAMPLES:
      text = reason.format(*map(excerpt, values))
      examples.append(Failure(check, self.file, self.line, self.record, text))
    return False

  def add(self, other: "Verdicts") -> None:
    """Adds the verdicts on other files."""
    self.made += other.made
    self.failed += other.failed
    for check, failures in other.examples.items():
      examples = self.examples.setdefault(check, [])
      examples += failures[: EXAMPLES - len(examples)]

  def by_check(self) -> dict[str, Mapping[str, Any]]:
    """Check -> counts and examples, for JSON."""
    checks: dict[str, Mapping[str, Any]] = {}
    for check in sorted(self.made):
      examples = [dataclasses.asdict(failure) for failure in self.examples.get(check, ())]
      checks[check] = dict(made=self.made[check], failed=self.failed[check], examples=examples)
    return checks

  def check_lines(self) -> Iterator[str]:
    """A line a check, and the examples of those that failed."""
    for check in sorted(self.made):
      failed = self.failed[check]
      state = f"{failed} FAILED" if failed else "good"
      yield f"{check:<16} {self.made[check]:>10}  {state}"
      for failure in self.examples.get(check, ()):
        yield f"    {failure}"
