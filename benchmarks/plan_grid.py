# SPDX-License-Identifier: Apache-2.0
"""Plans every stage and the longest contexts for TPUs: docs/plan.md.

  make plan                                   # All of it, hours on a laptop; keeps existing plans.
  python benchmarks/plan_grid.py --only fila       # Entries whose name has "fila" in it.
  python benchmarks/plan_grid.py --render          # Just the page, from docs/plan.json.

Each entry is `filax plan --largest` in a process of its own. Two runs with different --only may go
on side by side.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

from filax.train.chips import GIB

PAGE = pathlib.Path("docs/plan.md")
NUMBERS = pathlib.Path("docs/plan.json")
INTRODUCTION = """Compiled ahead of time for real topologies, without a TPU, by `make plan`
(`filax plan` for one config); written with {}. Nothing here ran on a TPU: memory is the compiler's
account, FLOPs are counted by us, bytes are read from the compiled program, and the step time is a
bound that no run can beat, not a measurement: arithmetic at the chip's peak, or all collectives
along one axis of the torus, whichever is longer. Rows are the largest of each config, full, one
sample each in attention. `make plan` takes the libtpu of the extra `test`, which is pinned to that
version; the extra `tpu` installs the one that jax asks for (0.0.42 for jax 0.10.2, 0.0.50 for jax
0.12), and `filax plan` compiles with whichever is installed.""".replace("\n", " ")
HEAD = (
  "| config | slice | fsdp x seq | rows a step, parts | frames, images, positions | GiB a chip | "
  "fits | TFLOPs a row (encoder, llm) | GB moved a chip | bound, s a step | planned |"
)
VERSIONS = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
STAGES = (
  "fila_stage1",
  "fila_stage2",
  "fila_stage3",
  "fila_stage4",
  "fila_base",
  "vcf_stage1",
  "vcf_stage2",
  "vcf_stage3",
  "vcf_stage4",
)
SLICES = ("v5e:16x16", "v5p:4x4x4", "v6e:16x16")
Plans = dict[str, Any]  # Key of an entry -> its plan.


@dataclasses.dataclass(frozen=True)
class Entry:
  """One call of `filax plan`."""

  name: str
  config: str
  topology: str
  changes: tuple[str, ...] = ()

  @property
  def key(self) -> str:
    """The entry's name in docs/plan.json."""
    return f"{self.name} {self.topology}"

  @property
  def command(self) -> list[str]:
    """The words of the command."""
    words = [sys.executable, "-m", "filax", "plan", f"--config={self.config}"]
    words += [f"--topology={self.topology}", "--largest", "--json", *self.changes]
    return words


ONE_ROW = ("--config.mesh.fsdp=-1", "--config.optim.accumulate=0")
LONG_CONTEXTS = [
  Entry(
    "512 frames x 196 tokens",
    "configs/vcf_stage3.py",
    "v5p:4x4x4",
    (
      "--config.mesh.seq=8",
      "--config.batch=8",
      "--config.model.merger.tokens=196",
      "--config.data.rows=((512,0,102400,1),)",
      *ONE_ROW,
    ),
  ),
  Entry(
    "10,000 frames x 16 tokens",
    "configs/vcf_stage3.py",
    "v5p:4x4x4",
    (
      "--config.mesh.seq=16",
      "--config.batch=4",
      "--config.data.rows=((10240,0,172032,1),)",
      *ONE_ROW,
    ),
  ),
  Entry(
    "2M tokens, ring",
    "configs/vcf_stage3.py",
    "v5p:8x8x8",
    (
      "--config.mesh.seq=512",
      "--config.batch=1",
      "--config.model.llm.sequence=ring",
      "--config.model.llm.attention=blockwise",
      "--config.data.rows=((0,1,2097152,1),)",
      *ONE_ROW,
    ),
  ),
]
MEMORY_CHANGES = (
  "mesh.seq=2",
  "mesh.seq=8",
  "model.llm.remat=nothing",
  "model.llm.remat=attn_mlp",
  "model.llm.remat=offload",
)


def sections() -> dict[str, list[Entry]]:
  """The sections of the page: headline -> entries."""
  return {
    "Stages": stage_entries(),
    "Memory against seq and remat (fila_stage4 has seq=4, remat=attn)": memory_entries(),
    "Long contexts": LONG_CONTEXTS,
  }


def stage_entries() -> list[Entry]:
  """All stages on all slices."""
  stages = []
  for topology in SLICES:
    for stage in STAGES:
      stages.append(Entry(stage, f"configs/{stage}.py", topology))
  return stages


def memory_entries() -> list[Entry]:
  """fila_stage4 on one slice, unchanged and with single changes."""
  name = "fila_stage4"
  config = f"configs/{name}.py"
  variants = [Entry(name, config, SLICES[0])]
  for change in MEMORY_CHANGES:
    variants.append(Entry(f"{name}, {change}", config, SLICES[0], (f"--config.{change}",)))
  return variants


def entries() -> list[Entry]:
  """All entries, each once."""
  by_key: dict[str, Entry] = {}
  for section in sections().values():
    for entry in section:
      by_key[entry.key] = entry
  return list(by_key.values())


def main(argv: Sequence[str]) -> int:
  """Plans the entries that are due, and writes the page."""
  parser = argparse.ArgumentParser(
    prog="python benchmarks/plan_grid.py",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--only", default="", help="entries whose name or slice has this in it")
  parser.add_argument("--again", action="store_true", help="plan what docs/plan.json has as well")
  parser.add_argument("--render", action="store_true", help="write the page and stop")
  args = parser.parse_args(argv)
  if not args.render:
    plan_entries(due_entries(args.only, args.again))
  write_page(load_plans())
  return 0


def due_entries(only: str, again: bool) -> list[Entry]:
  """Entries with `only` in their key; planned ones only if `again`."""
  plans = load_plans()
  due = []
  for entry in entries():
    if only in entry.key and (again or entry.key not in plans):
      due.append(entry)
  return due


def plan_entries(due: Sequence[Entry]) -> None:
  """Plans entries one after the other; updates the page after each."""
  began = time.perf_counter()
  for done, entry in enumerate(due):
    eta = 0.0
    if done:
      eta = (time.perf_counter() - began) / done * (len(due) - done)
    print(f"{done + 1}/{len(due)} {entry.key} (about {eta / 60:.0f} minutes left)", flush=True)
    plan = run_entry(entry) | dict(date=datetime.date.today().isoformat(), versions=VERSIONS)
    plans = load_plans() | {entry.key: plan}  # Another run may have written meanwhile.
    NUMBERS.write_text(json.dumps(plans, indent=1) + "\n")
    write_page(plans)


def load_plans() -> Plans:
  """docs/plan.json: key of an entry -> its plan."""
  if not NUMBERS.exists():
    return {}
  return json.loads(NUMBERS.read_text())


def write_page(plans: Plans) -> None:
  """Writes docs/plan.md."""
  PAGE.write_text("\n".join(page(plans)) + "\n")


def run_entry(entry: Entry) -> dict[str, Any]:
  """The plan of an entry, or the error of its command."""
  process = subprocess.run(entry.command, capture_output=True, text=True, check=False)
  if process.returncode > 1:
    return dict(error=process.stderr.strip().splitlines()[-1])
  return json.loads(process.stdout)


def page(plans: Plans) -> Iterator[str]:
  """The lines of docs/plan.md."""
  versions = sorted({plan["versions"] for plan in plans.values()})
  yield "# What a train step takes of a TPU slice"
  yield ""
  yield INTRODUCTION.format(" and ".join(versions))
  for headline, section in sections().items():
    rows = [table_row(entry, plans[entry.key]) for entry in section if entry.key in plans]
    if rows:
      yield from ("", f"## {headline}", "", HEAD, "|---" * HEAD.count(" | ") + "|---|", *rows)
  errors = list(failures(plans))
  if errors:
    yield from ("", *errors)


def table_row(entry: Entry, plan: Mapping[str, Any]) -> str:
  """A row of the table."""
  if "rows" not in plan:
    return f"| {entry.name} | {entry.topology} | | | | | no | | | | {plan['date']} |"
  row = plan["rows"][-1]
  mesh = plan["mesh"]
  flops = row["flops"]
  return (
    f"| {entry.name} | {entry.topology} | {mesh['fsdp']} x {mesh['seq']} | {plan['batch']}, "
    f"{plan['micro_batches']} | {row['frames']}, {row['images']}, {row['positions']:,} | "
    f"{row['memory']['total'] / GIB:.1f} of {plan['usable_bytes'] / GIB:.1f} | "
    f"{'yes' if row['fits'] else 'no'} | {flops['model'] / 1e12:,.0f} "
    f"({flops['encoder'] / 1e12:,.0f}, {flops['llm'] / 1e12:,.0f}) | {moved_gb(row)} | "
    f"{row['step_seconds']:.2f} | {plan['date']} |"
  )


def moved_gb(row: Mapping[str, Any]) -> str:
  """Gigabytes that a chip receives in a step; "" if unknown."""
  by_axes = row["collectives"]["bytes"]
  if by_axes is None:
    return ""
  total = sum(sum(kinds.values()) for kinds in by_axes.values())
  return f"{total / 1e9:,.1f}"


def failures(plans: Plans) -> Iterator[str]:
  """The compiler's errors about entries that do not compile or fit."""
  for entry in entries():
    plan = plans.get(entry.key, {})
    errors = [plan.get("error", "")]
    for row in plan.get("rows", ()):
      errors.append(row["error"])
    error = next(filter(None, errors), "")
    if error:
      yield f"- {entry.key}: {error}"


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
