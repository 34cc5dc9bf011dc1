# SPDX-License-Identifier: Apache-2.0
"""Judges whether a PyTorch twin learns as FiLax does.

Two libraries round differently, and training magnifies the difference. The control shows how fast:
it is FiLax itself, started with a change of one ulp in one weight. A distance is the absolute
difference of a run's loss from that of FiLax at the same step. The spread at a step is the largest
distance of the control up to that step.

A twin agrees if its distance is small (NEAR) while the control is close to FiLax (CHAOS), and if it
is at most a few times the spread (TIMES) after that.
"""

import dataclasses

import numpy as np

CHAOS = 1e-4  # When the control's distance exceeds this, rounding alone changes the losses.
NEAR = 1e-3  # Allowed distance of a twin before that step.
TIMES = 3.0  # Allowed distance of a twin from that step on, in units of the spread.


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Whether a twin learned as FiLax did."""

  control_passed_at: int | None  # First step, counted from 1, with the control beyond CHAOS.
  near: float  # Largest distance of the twin before that step.
  far: float  # Largest distance of the twin from that step on.
  times: float  # The same in units of the spread.
  agrees: bool

  def lines(self, run: str) -> list[str]:
    """The verdict on a run in sentences."""
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
  """Judges a twin.

  twin, control: their distances from FiLax, float64 [steps].
  """
  first = steps_before_chaos(control)
  spread = np.maximum.accumulate(control)
  late = twin[first:]
  in_spreads = late / spread[first:]
  near = float(twin[:first].max(initial=0))
  far = float(late.max(initial=0))
  times = float(in_spreads.max(initial=0))
  agrees = near <= NEAR and times <= TIMES
  passed_at = first + 1 if first < len(control) else None
  return Verdict(passed_at, near, far, times, bool(agrees))


def allowed_distance(control: np.ndarray) -> np.ndarray:
  """The largest distance at which a twin still agrees, float64 [steps]."""
  allowed = TIMES * np.maximum.accumulate(control)
  allowed[: steps_before_chaos(control)] = NEAR
  return allowed


def steps_before_chaos(control: np.ndarray) -> int:
  """Counts steps until the control's distance first exceeds CHAOS."""
  beyond = np.flatnonzero(control > CHAOS)
  return int(beyond[0]) if len(beyond) else len(control)
