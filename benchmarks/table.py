# SPDX-License-Identifier: Apache-2.0
"""The results as a page of Markdown."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from benchmarks.row import OURS, shape_text
from benchmarks.summary import summarise_case

Case = Mapping[str, Any]


def results_page(machine: Mapping[str, Any], cases: Sequence[Case]) -> str:
  """The page: machine, table, further figures, what was left out."""
  parts = [
    "# Benchmarks",
    machine_lines(machine, cases),
    "A ratio is the time of FiLax ÷ the time of the best peer: below 1 is faster. It is the median "
    "over rounds in which both ran one after the other; the range is that of the rounds. Rates are "
    "medians; ± is the range ÷ median. The CPU ratio compares CPU seconds, which load "
    "disturbs less. The first repetition of a side compiles and is not counted.",
    rate_table(cases),
  ]
  further = further_lines(cases)
  if further:
    parts += ["## Further figures", "\n".join(further)]
  left_out = left_out_lines(cases)
  if left_out:
    parts += ["## Left out, and why", "\n".join(left_out)]
  return "\n\n".join(parts) + "\n"


def machine_lines(machine: Mapping[str, Any], cases: Sequence[Case]) -> str:
  """Hardware, versions and load in words."""
  loads = [load for case in cases for load in case["load"]]
  commits = sorted({case["commit"] for case in cases})
  lines = [
    f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
    f"{machine['system']}, Python {machine['python']}.",
    f"{package_words(machine, cases)}.",
  ]
  if loads:
    lines.append(
      f"Commit {', '.join(commits)}. Load average of the machine during the run: {min(loads):.1f} "
      f"to {max(loads):.1f}."
    )
  return "\n".join(lines)


def package_words(machine: Mapping[str, Any], cases: Sequence[Case]) -> str:
  """The versions of packages; several where cases were run with several."""
  versions: dict[str, set[str]] = {}
  for case in cases:
    for name, version in case.get("packages", machine["packages"]).items():
      versions.setdefault(name, set()).add(version)
  return ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items())


def rate_table(cases: Sequence[Case]) -> str:
  """A line for every case."""
  lines = [
    "| work | shape | FiLax | best peer | ratio (range) | CPU ratio | others' load |",
    "|---|---|---|---|---|---|---|",
  ]
  for case in cases:
    summary = summarise_case(case)
    ours = summary["sides"].get(OURS, {})
    best = summary.get("best_peer")
    peer = "-"
    ratio = "-"
    cpu_ratio = "-"
    if best:
      peer = f"{best} {rate_text(summary['sides'][best], case['unit'])}"
      low, high = summary["ratio_range"]
      ratio = f"**{summary['ratio']:.2f}** ({low:.2f} to {high:.2f})"
      cpu_ratio = f"{summary['cpu_ratio']:.2f}"
    others = f"{100 * ours['others']:.0f} %" if "others" in ours else "-"
    cells = (
      case["what"],
      shape_text(case["shape"]),
      rate_text(ours, case["unit"]),
      peer,
      ratio,
      cpu_ratio,
      others,
    )
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def rate_text(side: Mapping[str, Any], unit: str) -> str:
  """A side's rate with its spread."""
  if "rate" not in side:
    return "failed" if "error" in side else "-"
  spread = f" ± {100 * side['spread']:.0f} %"
  if unit == "s":
    return f"{number_text(1 / side['rate'])} s{spread}"
  return f"{number_text(side['rate'])} {unit}{spread}"


def number_text(value: float) -> str:
  """A number with three digits."""
  if not value or math.isinf(value):
    return str(value)
  digits = max(0, 2 - math.floor(math.log10(abs(value))))
  return f"{value:,.{digits}f}"


def further_lines(cases: Sequence[Case]) -> list[str]:
  """Peak memory, and the figures beside the rate, of every side."""
  lines = []
  for case in cases:
    for name, side in summarise_case(case)["sides"].items():
      if "rate" not in side:
        continue
      words = [f"peak {side['peak_mib']:,.0f} MiB", f"CPU {number_text(side['cpu_seconds'])} s"]
      words.append(f"{side['samples']} repetitions of {number_text(side['seconds'])} s")
      words.append(f"the first {number_text(side['first'])} s")
      if "threads" in side:
        words.append(f"threads {side['threads']}")
      for key, value in side.get("further", {}).items():
        words.append(f"{key.replace('_', ' ')} {number_text(value)}")
      lines.append(f"- {case['row']} {shape_text(case['shape'])}, {name}: {', '.join(words)}")
  return lines


def left_out_lines(cases: Sequence[Case]) -> list[str]:
  """Sides that were skipped or failed."""
  reasons: dict[str, list[str]] = {}
  for case in cases:
    label = f"{case['row']} {shape_text(case['shape'])}"
    for name, reason in case["skipped"].items():
      reasons.setdefault(f"{name}: {reason}", []).append(label)
    for name, record in case["sides"].items():
      if record.get("error"):
        reasons.setdefault(f"{name} failed: {record['error']}", []).append(label)
  return [f"- {reason} ({'; '.join(labels)})" for reason, labels in reasons.items()]
