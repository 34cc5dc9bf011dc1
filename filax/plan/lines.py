# SPDX-License-Identifier: Apache-2.0
"""The plan of a config (filax.plan.report) as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from filax.train.chips import GIB

Data = Mapping[str, Any]


def plan_lines(plan: Data) -> Iterator[str]:
  """The lines of `filax plan`."""
  mesh = " ".join(f"{axis}={size}" for axis, size in plan["mesh"].items())
  yield (
    f"{plan['topology']}, {plan['chips']} chips, mesh {mesh}, {plan['batch']} rows a step in "
    f"{plan['micro_batches']} parts, remat encoder={plan['remat']['encoder']} llm="
    f"{plan['remat']['llm']}, jax {plan['jax']}"
  )
  if plan["chosen"]:
    yield f"Chosen: {plan['chosen']}"
  for row in plan["rows"]:
    yield ""
    yield from _row_lines(row, plan["usable_bytes"])
  if "evaluation" in plan:
    yield ""
    yield from _evaluation_lines(plan["evaluation"], plan["usable_bytes"])
    yield f"At most {plan['peak_bytes'] / GIB:.2f} GiB a chip, of steps and evaluations"
  if "chip_hours" in plan:
    yield f"{plan['samples']:,} samples: at least {plan['chip_hours']:,.0f} chip-hours"
  yield f"Assumed: {plan['assumed']}."


def _row_lines(row: Data, usable_bytes: float) -> Iterator[str]:
  after_dropout = "".join(f" -> {length:,}" for length in row["room"])
  yield (
    f"Rows of {row['frames']} frames, {row['images']} images, "
    f"{row['positions']:,}{after_dropout} positions"
  )
  yield _memory_line(row, usable_bytes)
  for text in row["helps"]:
    yield f"          try {text}"
  yield f"          by estimate {row['estimated_bytes'] / GIB:.2f} GiB without code"
  yield _flops_line(row["flops"])
  yield from _collective_lines(row["collectives"])
  merged = row["visual"]["merged"] / 1e9
  patches = row["visual"]["patches"] / 1e9
  yield (
    f"  visual  {merged:.3f} GB of merged tokens a row travel along seq, instead of "
    f"{patches:.3f} GB of patches (by arithmetic)"
  )
  yield (
    f"  bound   {row['step_seconds']:.3f} s a step: at most {row['rows_per_second']:,.1f} rows, "
    f"{row['frames_per_second']:,.0f} frames a second (compiled in {row['compile_seconds']:.0f} s)"
  )


def _evaluation_lines(evaluation: Data, usable_bytes: float) -> Iterator[str]:
  after_dropout = "".join(f" -> {length:,}" for length in evaluation["room"])
  yield (
    f"Evaluation of {evaluation['prompts']} prompts of at most {evaluation['positions']:,}"
    f"{after_dropout} positions, {evaluation['frames']} frames encoded at a time, "
    f"{evaluation['new_tokens']} new tokens (upper bound)"
  )
  yield _memory_line(evaluation, usable_bytes)
  for text in evaluation["helps"]:
    yield f"          try {text}"
  sizes = [f"{name} {size / GIB:.2f}" for name, size in evaluation["programs"].items()]
  yield f"  needs   GiB a chip beside the state: {', '.join(sizes)}"


def _memory_line(row: Data, usable_bytes: float) -> str:
  parts = []
  for kind, size in row["memory"].items():
    if kind != "total" and (size or kind != "adapters"):
      parts.append(f"{kind} {size / GIB:.2f}")
  total = row["memory"]["total"] / GIB
  verdict = "fits"
  if not row["fits"]:
    verdict = f"DOES NOT FIT, by {row['lacks_bytes'] / GIB:.2f} GiB"
  return (
    f"  memory  {total:.2f} of {usable_bytes / GIB:.2f} GiB a chip: {verdict} ({', '.join(parts)})"
  )


def _flops_line(flops: Data) -> str:
  tera = {part: count / 1e12 for part, count in flops.items()}
  return (
    f"  FLOPs   {tera['model']:,.1f} T a row: encoder {tera['encoder']:,.1f}, merger "
    f"{tera['merger']:,.3f}, llm {tera['llm']:,.1f} (dropout saves {tera['dropped']:,.1f}); "
    f"computed again {tera['recomputed']:,.1f}"
  )


def _collective_lines(collectives: Data) -> Iterator[str]:
  if collectives["bytes"] is None:
    yield f"  moved   unknown: {collectives['error']}"
    return
  for axes, kinds in sorted(collectives["bytes"].items()):
    sizes = []
    for kind, size in sorted(kinds.items()):
      sizes.append(f"{kind} {size / 1e9:,.3f}")
    yield f"  moved   GB a chip along {axes}: {', '.join(sizes)}"
