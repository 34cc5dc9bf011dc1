# SPDX-License-Identifier: Apache-2.0
"""The plan of serving (filax.plan.serving) as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from filax.train.chips import GIB

Data = Mapping[str, Any]


def serving_lines(plan: Data) -> Iterator[str]:
  """The lines of `filax plan --serve`."""
  mesh = " ".join(f"{axis}={size}" for axis, size in plan["mesh"].items())
  yield f"{plan['topology']}, {plan['chips']} chips, mesh {mesh}, jax {plan['jax']}"
  for row in plan["rows"]:
    yield ""
    yield from row_lines(row, plan["usable_bytes"])
  yield f"Assumed: {plan['assumed']}."


def row_lines(row: Data, usable_bytes: float) -> Iterator[str]:
  """The lines of videos of one length."""
  after_dropout = "".join(f" -> {length:,}" for length in row["room"])
  yield (
    f"{row['frames']:,} frames, dropout {row['dropout']}: {row['prompts']} prompts of at most "
    f"{row['positions']:,}{after_dropout} positions and {row['new_tokens']:,} new tokens"
  )
  if row["beyond_context"]:
    yield "          beyond the trained context: answering needs --yarn (config.model.llm.yarn)"
  kinds = []
  for kind, size in row["memory"].items():
    if kind != "total":
      kinds.append(f"{kind} {size / GIB:.2f}")
  verdict = "fits" if row["fits"] else f"DOES NOT FIT, by {row['lacks_bytes'] / GIB:.2f} GiB"
  yield (
    f"  memory  {row['memory']['total'] / GIB:.2f} of {usable_bytes / GIB:.2f} GiB a chip: "
    f"{verdict} ({', '.join(kinds)})"
  )
  for text in row["helps"]:
    yield f"          try {text}"
  prefill = row["prefill"]
  yield f"  prefill {prefill['flops'] / 1e12:,.0f} TFLOPs, at least {prefill['seconds']:.3f} s"
  token = row["token"]
  if token is None:
    yield "  token   not compiled: the prefill does not fit"
    return
  giga = {kind: token[kind] / 1e9 for kind in ("bytes", "weights", "cache", "flops", "moved")}
  yield (
    f"  token   {giga['bytes']:.2f} GB a chip (weights {giga['weights']:.2f}, cache "
    f"{giga['cache']:.2f}), {giga['flops']:.1f} GFLOPs, {giga['moved']:.4f} GB moved"
  )
  if token["touched"] is not None:
    yield f"          {token['touched'] / 1e9:.2f} GB by the compiled loop, results included"
  yield (
    f"  bound   {token['seconds'] * 1e3:.2f} ms a token, at most {token['tokens_per_second']:,.0f} "
    f"tokens a second (compiled in {row['compile_seconds']:.0f} s)"
  )
