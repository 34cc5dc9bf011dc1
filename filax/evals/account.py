# SPDX-License-Identifier: Apache-2.0
"""Counts of skipped questions and seconds, reported beside the answers."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Self

# decode: of reading threads; wait: for them; encode, prefill and generate: of the device. If a
# judge was asked, its seconds are there as "judge", and not in the total.
PHASES = ("decode", "wait", "encode", "prefill", "generate", "total")


def _no_seconds() -> dict[str, float]:
  return dict.fromkeys(PHASES, 0.0)


@dataclasses.dataclass
class Account:
  """Skipped questions and times of one process."""

  skipped: dict[str, str] = dataclasses.field(default_factory=dict)  # Id -> reason.
  bad_media: dict[str, str] = dataclasses.field(default_factory=dict)  # Medium -> reason.
  bad_questions: list[str] = dataclasses.field(default_factory=list)  # Skipped for other reasons.
  first_prompt: str = ""
  seconds: dict[str, float] = dataclasses.field(default_factory=_no_seconds)  # Phase -> seconds.
  busy: float = 0.0  # Seconds in which the device ran a program.
  compilations: int = 0
  finished: bool = False

  @property
  def idle_share(self) -> float | None:
    """The share of time in which the device was idle."""
    total = self.seconds.get("total", 0.0)
    return max(0.0, 1 - self.busy / total) if total else None

  def refuse(self, id: str, reason: str) -> None:
    """Lists a question that cannot be asked."""
    self.skipped[id] = reason
    self.bad_questions.append(f"{id}: {reason}")

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def merged(cls, accounts: Sequence[Mapping[str, Any]]) -> Self:
    """The account of several processes: their times are summed."""
    total = cls(finished=True)
    for entries in accounts:
      account = cls(**entries)
      total.skipped |= account.skipped
      total.bad_media |= account.bad_media
      total.bad_questions += account.bad_questions
      total.first_prompt = total.first_prompt or account.first_prompt
      total.busy += account.busy
      total.compilations += account.compilations
      total.finished = total.finished and account.finished
      for phase, seconds in account.seconds.items():
        total.seconds[phase] = total.seconds.get(phase, 0.0) + seconds
    return total
