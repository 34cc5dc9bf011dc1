# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and ratios of the samples of a case."""

from collections.abc import Mapping
import statistics
from typing import Any

from benchmarks.row import OURS

_OF_A_SAMPLE = ("seconds", "amount", "cpu_seconds", "peak_mib", "others")


def seconds_a_unit(sample: Mapping[str, float]) -> float:
  """Seconds for one unit of work."""
  return sample["seconds"] / sample["amount"]


def summarise_side(record: Mapping[str, Any]) -> dict[str, Any]:
  """Median, spread and further figures of a side.

  Only its error if it has no sample."""
  samples = record["samples"]
  if not samples:
    return dict(error=record.get("error", "no sample"))
  times = [seconds_a_unit(sample) for sample in samples]
  middle = statistics.median(times)
  summary = dict(
    seconds=statistics.median(sample["seconds"] for sample in samples),
    rate=1 / middle if middle else float("inf"),
    spread=(max(times) - min(times)) / middle if middle else 0.0,
    cpu_seconds=statistics.median(sample["cpu_seconds"] for sample in samples),
    peak_mib=max(sample["peak_mib"] for sample in samples),
    others=statistics.mean(sample["others"] for sample in samples),
    samples=len(samples),
    first=record.get("first", 0.0),
  )
  further = {}
  for key in samples[0]:
    if key not in _OF_A_SAMPLE:
      further[key] = statistics.median(sample[key] for sample in samples)
  if further:
    summary["further"] = further
  if "threads" in record:
    summary["threads"] = record["threads"]
  if record.get("error"):
    summary["error"] = record["error"]
  return summary


def summarise_case(case: Mapping[str, Any]) -> dict[str, Any]:
  """The sides of a case, its best peer and the ratio.

  The ratio is our time ÷ theirs: the median over rounds, in which both ran one after the other.
  """
  sides = {name: summarise_side(record) for name, record in case["sides"].items()}
  peers = {}
  for name, side in sides.items():
    if name != OURS and "rate" in side:
      peers[name] = side["rate"]
  summary: dict[str, Any] = dict(sides=sides)
  if not peers or "rate" not in sides.get(OURS, {}):
    return summary
  best = max(peers, key=lambda name: peers[name])
  ours = case["sides"][OURS]["samples"]
  theirs = case["sides"][best]["samples"]
  ratios = []
  cpu_ratios = []
  for our_sample, their_sample in zip(ours, theirs, strict=False):
    ratios.append(seconds_a_unit(our_sample) / seconds_a_unit(their_sample))
    our_cpu = our_sample["cpu_seconds"] / our_sample["amount"]
    their_cpu = their_sample["cpu_seconds"] / their_sample["amount"]
    cpu_ratios.append(our_cpu / max(their_cpu, 1e-9))
  summary["best_peer"] = best
  summary["ratio"] = statistics.median(ratios)
  summary["ratio_range"] = [min(ratios), max(ratios)]
  summary["cpu_ratio"] = statistics.median(cpu_ratios)
  return summary
