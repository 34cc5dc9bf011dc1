# SPDX-License-Identifier: Apache-2.0
"""Chooses config.model.*.remat="auto" and config.optim.accumulate="auto".

A choice is a remat policy and a number of micro-batches. Those whose estimated memory, with a
margin, fits a device are compared in this order:

1. The bound on the time of a step: the longer one of the time of all arithmetic (recomputation
   included) and the time to exchange bytes between devices.
2. The sum of these two times.
3. The number of micro-batches.
4. The memory.

The choice with the smallest values is taken.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
from typing import NamedTuple

from filax.parallel.rules import MESH
from filax.spec import RowShape
from filax.train.chips import GIB
from filax.train.memory_estimate import MARGIN, Policy, StepBytes, StepFacts, largest_bytes
from filax.train.step_work import train_work

AUTO = "auto"
POLICIES = ("products", "attn_mlp", "attn_qkv", "attn", "nothing")  # From little work to much.
_FLOPS_OF_BYTE = 2500.0  # Arithmetic in the time of one exchanged byte: v5p 2,550, H100 2,200.


@dataclasses.dataclass(frozen=True)
class Fit:
  """A choice and its estimate."""

  policy: Policy
  bytes: StepBytes
  device_bytes: float
  note: str = ""  # The reason why an earlier choice was given up.

  @property
  def has_room(self) -> bool:
    """Whether the estimate and its margin fit."""
    return self.bytes.peak * (1 + MARGIN) <= self.device_bytes

  def line(self) -> str:
    """The choice and its estimate in words."""
    policy = self.policy
    words = (
      f"config.model.encoder.remat={policy.encoder}, config.model.llm.remat={policy.llm}, "
      f"config.optim.accumulate={policy.parts}: about {_size(self.bytes.peak)} of the "
      f"{_size(self.device_bytes)} GiB of a device, by estimate"
    )
    if not self.has_room:
      words += f"; with a margin of {MARGIN:.0%} that is too much, but nothing smaller is left"
    return f"{words}. {self.note}".strip()


@dataclasses.dataclass(frozen=True)
class Open:
  """Settings of a config, some of which are left to `choose`."""

  encoder: str  # "auto" = left open, as are the others.
  llm: str
  parts: int | None  # None = left open.

  @property
  def any(self) -> bool:
    """Whether something is left open."""
    return AUTO in (self.encoder, self.llm) or self.parts is None

  def filled(self, policy: Policy) -> Policy:
    """These settings, with those of `policy` where they are open."""
    return Policy(
      encoder=policy.encoder if self.encoder == AUTO else self.encoder,
      llm=policy.llm if self.llm == AUTO else self.llm,
      parts=policy.parts if self.parts is None else self.parts,
    )


def keep_or_choose(
  facts: StepFacts, wanted: Open, device_bytes: float, earlier: Policy | None
) -> Fit:
  """The choice of an earlier start, or a new one."""
  chosen = choose(facts, wanted, device_bytes)
  if earlier is None:
    return chosen
  kept = wanted.filled(earlier)
  if kept == chosen.policy:
    return chosen
  if facts.rows_of_device % kept.parts:
    reason = (
      f"config.optim.accumulate={kept.parts} of the start before does not divide the "
      f"{facts.rows_of_device} rows of a device"
    )
    return dataclasses.replace(chosen, note=f"Chosen anew: {reason}.")
  fit = Fit(kept, largest_bytes(facts, kept), device_bytes)
  if fit.has_room or not chosen.has_room:
    return fit
  reason = (
    f"the start before had config.model.encoder.remat={kept.encoder}, config.model.llm.remat="
    f"{kept.llm} and config.optim.accumulate={kept.parts}, about {_size(fit.bytes.peak)} GiB, "
    f"too much here"
  )
  return dataclasses.replace(chosen, note=f"Chosen anew: {reason}.")


def choose(facts: StepFacts, wanted: Open, device_bytes: float) -> Fit:
  """The fastest policy that fits; if none does, the smallest."""
  candidates = []
  arithmetic: dict[tuple[str, str], float] = {}  # It does not depend on micro-batches.
  for policy in open_policies(facts, wanted):
    pair = (policy.encoder, policy.llm)
    if pair not in arithmetic:
      arithmetic[pair] = _arithmetic(facts, policy)
    fit = Fit(policy, largest_bytes(facts, policy), device_bytes)
    bound, total = _step_time(facts, policy, arithmetic[pair])
    candidates.append(_Candidate(fit, bound, total))
  fitting = [candidate for candidate in candidates if candidate.fit.has_room]
  if fitting:
    return min(fitting, key=_fastest_first).fit
  return min(candidates, key=_smallest_first).fit


class _Candidate(NamedTuple):
  """A choice, and the time of a step, in FLOPs."""

  fit: Fit
  bound: float  # The longer one of arithmetic and exchange.
  total: float  # Both together.


def _fastest_first(candidate: _Candidate) -> tuple[float, float, int, float]:
  fit = candidate.fit
  return candidate.bound, candidate.total, fit.policy.parts, fit.bytes.peak


def _smallest_first(candidate: _Candidate) -> tuple[float, float]:
  return candidate.fit.bytes.peak, candidate.bound


def open_policies(facts: StepFacts, wanted: Open) -> Iterator[Policy]:
  """All policies that settings leave open."""
  encoder = _choices(wanted.encoder)
  if wanted.encoder == AUTO and not facts.trains("encoder/"):
    encoder = ("nothing",)  # Without a gradient no layer keeps anything.
  parts = _divisors(facts.rows_of_device) if wanted.parts is None else [wanted.parts]
  for chosen in itertools.product(encoder, _choices(wanted.llm), parts):
    yield Policy(*chosen)


def _choices(policy: str) -> Sequence[str]:
  return POLICIES if policy == AUTO else (policy,)


def _divisors(number: int) -> list[int]:
  return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _step_time(facts: StepFacts, policy: Policy, arithmetic: float) -> tuple[float, float]:
  """(bound, total) of a step's time, in FLOPs of a device.

  arithmetic: FLOPs. What is exchanged: the layers' weights for the forward and for the backward
  pass of every micro-batch, and the gradients of what is trained.
  """
  spread = facts.mesh["fsdp"] * facts.mesh["seq"]
  layer = facts.layer("llm")
  passes = 3 if facts.trains("llm/layers/") else 2
  weights = layer.elements * facts.model.llm.depth / facts.mesh["tensor"]
  exchanged = policy.parts * passes * 2 * weights * (spread - 1) / spread
  moved = exchanged * _FLOPS_OF_BYTE
  return max(arithmetic, moved), arithmetic + moved


def _arithmetic(facts: StepFacts, policy: Policy) -> float:
  """FLOPs of a device in a step whose rows are the longest."""
  model = with_policies(facts.model, policy)
  row = max(facts.rows, key=_length)
  work = train_work(model, facts.shapes, facts.rates, row)
  devices = 1
  for axis in MESH:
    devices *= facts.mesh[axis]
  return work.hardware * facts.batch / devices


def with_policies(model, policy: Policy):
  """The model with the policies of a choice."""
  parts = {}
  for role in ("encoder", "llm"):
    part = getattr(model, role)
    parts[role] = part.clone(remat=getattr(policy, role))
  return model.clone(**parts)


def _length(row: RowShape) -> int:
  return row.length


def _size(size: float) -> str:
  """Bytes in GiB, with as many digits as matter."""
  gib = size / GIB
  return f"{gib:.1f}" if gib >= 1 else f"{gib:.2g}"
