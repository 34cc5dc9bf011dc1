# SPDX-License-Identifier: Apache-2.0
"""The page docs/plan.md, from the numbers in docs/plan.json."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import plan_entries
from filax.train.chips import GIB
from filax.train.memory_estimate import MARGIN

Plans = dict[str, Any]  # Key of an entry -> its plan.
INTRODUCTION = """This page shows how much memory and time a train step takes on TPUs.
`make plan` writes it: it compiles every stage for real TPU topologies ahead of time, for which no
TPU is needed. `filax plan` does the same for one config. This page was written with {}.

Nothing on this page was measured on a TPU:

- **Memory** (GiB a chip) is what the compiler reports.
- **FLOPs** are computed from the shapes by FiLax (`filax/costs.py`).
- **Bytes moved** between chips (GB moved a chip) are read from the compiled program.
- **The bound** is a time that no step can beat. It is the longer of two times: that of all
  arithmetic at the peak of the chip, and that of all collectives along one axis of the torus.

The columns of the tables:

- **slice**: the kind of TPU and the number of chips along each axis. `v5p:4x4x4` has 64 chips.
- **fsdp x seq**: sizes of two axes of the mesh. fsdp splits the batch; seq splits each row.
- **remat**: what a layer keeps for the backward pass (`filax/train/README.md`).
- **rows a step, parts**: rows of the batch, and the number of micro-batches.
- **frames, images, positions**: the size of a row. Every plan uses the largest row of its config.
  The rows are full, and each holds one sample.

The numbers depend on libtpu, the TPU's compiler. `make plan` uses the libtpu of the extra `test`,
which is pinned to one version. The extra `tpu` installs the version that jax asks for (0.0.42 for
jax 0.10.2, 0.0.50 for jax 0.12). `filax plan` compiles with the version that is installed."""
HEAD = (
  "| config | slice | fsdp x seq | remat of encoder, llm | rows a step, parts | frames, images, "
  "positions | GiB a chip | fits | TFLOPs a row (encoder, llm) | GB moved a chip | bound, s a step "
  "| planned |"
)
CHOICES_HEAD = (
  "| config | slice | row by row: arithmetic, s a step | remat of encoder, llm | parts | "
  "GiB a chip, by estimate | arithmetic, s a step |"
)
CHOICES_WORDS = """This table shows what `remat="auto"` and `accumulate="auto"` choose. The choice
is made by arithmetic, without a compiler. It considers all settings that are estimated to fit with
a margin of {margin:.0%}, and takes the one with the shortest bound. The bound here is the longer of
two times: that of all arithmetic, recomputation included, and that of gathering the weights. If
several settings are equal, it takes the one with the fewest parts.

For comparison, the first column of seconds is the arithmetic of the same stage row by row, with
remat=nothing in the encoder and remat=attn in the language model."""
ESTIMATES_HEAD = (
  "| config | slice | remat of encoder, llm | parts | compiled, GiB | estimated, GiB | error |"
)
ESTIMATES_WORDS = """The choices above rest on an estimate of memory
(`filax/train/memory_estimate.py`). This table compares it with the compiled programs; both leave
out the memory of the program's code. With its margin, the estimate is never below a compiled
program on this page."""
SERVING_HEAD = (
  "| frames | slice | dropout | positions | GiB a chip | fits | prefill, s | "
  "GB a token (weights, cache) | GB in the compiled loop | bound, ms a token | planned |"
)
SERVING_WORDS = """This table is about answering one question at a time about a video. The model is
{config} in bfloat16 on small slices; the numbers are those of `filax plan --serve`.

- **Prefill** is a bound: its arithmetic at the peak of the chip.
- **The bound of a token** is the time to read the weights and the cache once, at the bandwidth of
  the HBM.
- The encoding of the video is left out.
- Prompts of more than 32,768 positions need YaRN."""


def page(plans: Plans, choices: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """The lines of docs/plan.md."""
  versions = sorted({plan["versions"] for plan in plans.values()})
  yield "# What a train step takes of a TPU slice"
  yield ""
  yield INTRODUCTION.format(" and ".join(versions))
  for headline, section in plan_entries.sections().items():
    rows = [table_row(entry, plans[entry.key]) for entry in section if entry.key in plans]
    yield from table(headline, "", HEAD, rows)
  words = CHOICES_WORDS.format(margin=MARGIN)
  yield from table(
    "What FiLax chooses by itself", words, CHOICES_HEAD, list(map(choice_row, choices))
  )
  yield from table(
    "Estimated and compiled memory", ESTIMATES_WORDS, ESTIMATES_HEAD, estimate_rows(plans)
  )
  words = SERVING_WORDS.format(config=plan_entries.SERVED)
  yield from table("Answering", words, SERVING_HEAD, serving_rows(plans))
  errors = list(failures(plans))
  if errors:
    yield from ("", *errors)


def table(headline: str, words: str, head: str, rows: Sequence[str]) -> Iterator[str]:
  """A section of the page; nothing without rows."""
  if not rows:
    return
  yield from ("", f"## {headline}", "")
  if words:
    yield from (words, "")
  yield from (head, "|---" * head.count(" | ") + "|---|", *rows)


def table_row(entry: plan_entries.Entry, plan: Mapping[str, Any]) -> str:
  """A row of the tables of steps."""
  if "rows" not in plan:
    return f"| {entry.name} | {entry.topology} | | | | | | no | | | | {plan['date']} |"
  row = plan["rows"][-1]
  mesh = plan["mesh"]
  flops = row["flops"]
  return (
    f"| {entry.name} | {entry.topology} | {mesh['fsdp']} x {mesh['seq']} | {remat(plan)} | "
    f"{plan['batch']}, {plan['micro_batches']} | {row['frames']}, {row['images']}, "
    f"{row['positions']:,} | {gib(row['memory']['total'])} of {gib(plan['usable_bytes'])} | "
    f"{'yes' if row['fits'] else 'no'} | {flops['model'] / 1e12:,.0f} "
    f"({flops['encoder'] / 1e12:,.0f}, {flops['llm'] / 1e12:,.0f}) | {moved_gb(row)} | "
    f"{row['step_seconds']:.2f} | {plan['date']} |"
  )


def choice_row(choice: Mapping[str, Any]) -> str:
  """A row of the table of choices."""
  memory = f"{gib(choice['bytes'])} of {gib(choice['device_bytes'])}"
  return (
    f"| {choice['config']} | {choice['slice']} | {choice['before_seconds']:.2f} | "
    f"{choice['encoder']}, {choice['llm']} | {choice['parts']} | {memory} | "
    f"{choice['seconds']:.2f} |"
  )


def estimate_rows(plans: Plans) -> list[str]:
  """Compiled and estimated memory of every step on the page."""
  rows = []
  for entry in plan_entries.entries():
    plan = plans.get(entry.key, {})
    for row in plan.get("rows", ()):
      if "estimated_bytes" not in row or row["error"]:
        continue
      compiled = compiled_bytes(row)
      estimated = row["estimated_bytes"]
      rows.append(
        f"| {entry.name} | {entry.topology} | {remat(plan)} | {plan['micro_batches']} | "
        f"{gib(compiled)} | {gib(estimated)} | {estimated / compiled - 1:+.0%} |"
      )
  return rows


def compiled_bytes(row: Mapping[str, Any]) -> float:
  """The compiled memory of a step, without its code."""
  return row["memory"]["total"] - row["memory"]["program"]


def serving_rows(plans: Plans) -> list[str]:
  """Answers by number of frames, slice and dropout."""
  rows = []
  for entry in plan_entries.serving_entries():
    plan = plans.get(entry.key, {})
    for row in plan.get("rows", ()):
      rows.append(serving_row(entry.topology, plan, row))
  return rows


def serving_row(topology: str, plan: Mapping[str, Any], row: Mapping[str, Any]) -> str:
  """A row of the table of answers."""
  positions = " -> ".join(f"{length:,}" for length in (row["positions"], *row["room"]))
  token = row["token"]
  read = ""
  touched = ""
  bound = ""
  if token is not None:
    read = f"{token['bytes'] / 1e9:.1f} ({token['weights'] / 1e9:.1f}, {token['cache'] / 1e9:.1f})"
    touched = "" if token["touched"] is None else f"{token['touched'] / 1e9:.1f}"
    bound = f"{token['seconds'] * 1e3:.2f}"
  return (
    f"| {row['frames']:,} | {topology} | {row['dropout']} | {positions} | "
    f"{gib(row['memory']['total'])} of {gib(plan['usable_bytes'])} | "
    f"{'yes' if row['fits'] else 'no'} | {row['prefill']['seconds']:.2f} | {read} | "
    f"{touched} | {bound} | "
    f"{plan['date']} |"
  )


def remat(plan: Mapping[str, Any]) -> str:
  """What the layers keep, of both roles."""
  return f"{plan['remat']['encoder']}, {plan['remat']['llm']}"


def gib(size: float) -> str:
  """Bytes in GiB."""
  return f"{size / GIB:.1f}"


def moved_gb(row: Mapping[str, Any]) -> str:
  """Gigabytes that a chip receives in a step; "" if unknown."""
  by_axes = row["collectives"]["bytes"]
  if by_axes is None:
    return ""
  total = sum(sum(kinds.values()) for kinds in by_axes.values())
  return f"{total / 1e9:,.1f}"


def failures(plans: Plans) -> Iterator[str]:
  """The compiler's errors about entries that do not compile or fit."""
  for entry in plan_entries.entries():
    plan = plans.get(entry.key, {})
    errors = [plan.get("error", "")]
    for row in plan.get("rows", ()):
      errors.append(row["error"])
    error = next(filter(None, errors), "")
    if error:
      yield f"- {entry.key}: {error}"
