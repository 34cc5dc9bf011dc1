# SPDX-License-Identifier: Apache-2.0
"""Judges the distance of a twin by that of the control.

Rounding differs between two libraries, and training magnifies it. How fast is what the control
shows: FiLax beside FiLax, one ulp apart in one weight. Its largest distance so far is the spread.
"""

import dataclasses

import numpy as np

CHAOS = 1e-4  # From here on, the control shows how far rounding alone leads.
NEAR = 1e-3  # The largest distance of the twin until then.
TIMES = 3.0  # Afterwards, the largest distance of the twin in units of the spread.


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Whether a twin learned as FiLax did."""

  control_passed_at: int | None  # The first step, from 1, at which the control is beyond CHAOS.
  near: float  # Largest distance of the twin before that step.
  far: float  # Largest distance of the twin from that step on.
  times: float  # Largest distance of the twin in units of the spread, from that step on.
  agrees: bool

  def lines(self, run: str) -> list[str]:
    """What was judged of a run, in sentences."""
    word = "agrees" if self.agrees else "DISAGREES"
    if self.control_passed_at is None:
      return [
        f"The control stays within {CHAOS:g} to the end.",
        f"{run}: at most {self.near:.1e} away (allowed: {NEAR:g}): {word}.",
      ]
    return [
      f"The control passes {CHAOS:g} at step {self.control_passed_at}.",
      f"{run}: before it at most {self.near:.1e} away (allowed: {NEAR:g}), from it on at most "
      f"{self.far:.1e}, {self.times:.2f} times the spread of the control so far (allowed: "
      f"{TIMES:g} times): {word}.",
    ]


def judge(twin: np.ndarray, control: np.ndarray) -> Verdict:
  """The verdict on distances of losses from FiLax, float64 [steps]."""
  first = steps_before_chaos(control)
  near = float(twin[:first].max(initial=0))
  far = float(twin[first:].max(initial=0))
  spread = np.maximum.accumulate(control)
  times = float((twin[first:] / spread[first:]).max(initial=0))
  agrees = near <= NEAR and times <= TIMES
  passed_at = first + 1 if first < len(control) else None
  return Verdict(passed_at, near, far, times, bool(agrees))


def allowed_distance(control: np.ndarray) -> np.ndarray:
  """The largest distance of the twin that agrees, float64 [steps]."""
  allowed = TIMES * np.maximum.accumulate(control)
  allowed[: steps_before_chaos(control)] = NEAR
  return allowed


def steps_before_chaos(control: np.ndarray) -> int:
  """Steps before the first one at which the control is beyond CHAOS."""
  beyond = np.flatnonzero(control > CHAOS)
  return int(beyond[0]) if len(beyond) else len(control)
