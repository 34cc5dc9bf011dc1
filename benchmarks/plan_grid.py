# SPDX-License-Identifier: Apache-2.0
"""Plans every stage config, and the longest contexts, for three slices of TPUs: docs/plan.md.

  make plan                                   # All of it, hours on a laptop; what is there stays.
  python benchmarks/plan_grid.py --only fila       # Entries whose name has "fila" in it.
  python benchmarks/plan_grid.py --render          # Just the page, from docs/plan.json.

Each entry is `filax plan --largest` in a process of its own. Two runs with different --only may go
on side by side.
"""

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time

from filax.plan.topology import GIB

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


@dataclasses.dataclass(frozen=True)
class Entry:
  """One call of `filax plan`."""

  name: str
  config: str
  topology: str
  changes: tuple[str, ...] = ()

  @property
  def key(self) -> str:
    return f"{self.name} {self.topology}"


def sections() -> dict[str, list[Entry]]:
  """All of the grid: headline -> entries."""
  stages = [Entry(stage, f"configs/{stage}.py", at) for at in SLICES for stage in STAGES]
  four = Entry("fila_stage4", "configs/fila_stage4.py", SLICES[0])
  other = lambda change: dataclasses.replace(
    four, name=f"fila_stage4, {change}", changes=(f"--config.{change}",)
  )
  flash = "configs/vcf_stage3.py"
  one_row = ("--config.mesh.fsdp=-1", "--config.optim.accumulate=0")
  return {
    "Stages": stages,
    "Memory against seq and remat (fila_stage4 has seq=4, remat=attn)": [
      four,
      *map(
        other,
        (
          "mesh.seq=2",
          "mesh.seq=8",
          "model.llm.remat=nothing",
          "model.llm.remat=attn_mlp",
          "model.llm.remat=offload",
        ),
      ),
    ],
    "Long contexts": [
      Entry(
        "512 frames x 196 tokens",
        flash,
        "v5p:4x4x4",
        (
          "--config.mesh.seq=8",
          "--config.batch=8",
          "--config.model.merger.tokens=196",
          "--config.data.rows=((512,0,102400,1),)",
          *one_row,
        ),
      ),
      Entry(
        "10,000 frames x 16 tokens",
        flash,
        "v5p:4x4x4",
        (
          "--config.mesh.seq=16",
          "--config.batch=4",
          "--config.data.rows=((10240,0,172032,1),)",
          *one_row,
        ),
      ),
      Entry(
        "2M tokens, ring",
        flash,
        "v5p:8x8x8",
        (
          "--config.mesh.seq=512",
          "--config.batch=1",
          "--config.model.llm.sequence=ring",
          "--config.model.llm.attention=blockwise",
          "--config.data.rows=((0,1,2097152,1),)",
          *one_row,
        ),
      ),
    ],
  }


def entries() -> list[Entry]:
  """Every entry once."""
  return list({e.key: e for found in sections().values() for e in found}.values())


def main(argv: Sequence[str]) -> int:
  made = argparse.ArgumentParser(
    prog="python benchmarks/plan_grid.py",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument("--only", default="", help="entries whose name or slice has this in it")
  made.add_argument("--again", action="store_true", help="plan what docs/plan.json has as well")
  made.add_argument("--render", action="store_true", help="write the page and stop")
  args = made.parse_args(argv)
  known = _known()
  due = (
    []
    if args.render
    else [e for e in entries() if args.only in e.key and (args.again or e.key not in known)]
  )
  began = time.perf_counter()
  for done, entry in enumerate(due):
    eta = (time.perf_counter() - began) / done * (len(due) - done) if done else 0.0
    print(f"{done + 1}/{len(due)} {entry.key} (about {eta / 60:.0f} minutes left)", flush=True)
    found = run(entry) | dict(date=datetime.date.today().isoformat(), versions=VERSIONS)
    known = _known() | {entry.key: found}  # Another run may have written meanwhile.
    NUMBERS.write_text(json.dumps(known, indent=1) + "\n")
    PAGE.write_text("\n".join(page(known)) + "\n")
  PAGE.write_text("\n".join(page(known)) + "\n")
  return 0


def _known() -> dict:
  return json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}


def run(entry: Entry) -> dict:
  """The numbers of an entry, or the error that it ended with."""
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "filax",
      "plan",
      "--config",
      entry.config,
      "--topology",
      entry.topology,
      "--largest",
      "--json",
      *entry.changes,
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode > 1:
    return dict(error=done.stderr.strip().splitlines()[-1])
  return json.loads(done.stdout)


def page(known: dict) -> Iterator[str]:
  """The lines of docs/plan.md."""
  versions = " and ".join(sorted({found["versions"] for found in known.values()}))
  yield "# What a train step takes of a TPU slice"
  yield ""
  yield INTRODUCTION.format(versions)
  for headline, found in sections().items():
    if rows := [line(entry, known) for entry in found if entry.key in known]:
      yield from ("", f"## {headline}", "", HEAD, "|---" * HEAD.count(" | ") + "|---|", *rows)
  if said := list(failures(known)):
    yield from ("", *said)


def line(entry: Entry, known: dict) -> str:
  """A row of the table."""
  found = known[entry.key]
  if "rows" not in found:
    return f"| {entry.name} | {entry.topology} | | | | | no | | | | {found['date']} |"
  row = found["rows"][-1]
  mesh = found["mesh"]
  moved = row["collectives"]["bytes"]
  travelled = (
    "" if moved is None else (f"{sum(sum(kinds.values()) for kinds in moved.values()) / 1e9:,.1f}")
  )
  flops = row["flops"]
  return (
    f"| {entry.name} | {entry.topology} | {mesh['fsdp']} x {mesh['seq']} | {found['batch']}, "
    f"{found['micro_batches']} | {row['frames']}, {row['images']}, {row['positions']:,} | "
    f"{row['memory']['total'] / GIB:.1f} of {found['usable_bytes'] / GIB:.1f} | "
    f"{'yes' if row['fits'] else 'no'} | {flops['model'] / 1e12:,.0f} "
    f"({flops['encoder'] / 1e12:,.0f}, {flops['llm'] / 1e12:,.0f}) | {travelled} | "
    f"{row['step_seconds']:.2f} | {found['date']} |"
  )


def failures(known: dict) -> Iterator[str]:
  """What the compiler said of entries that do not compile or fit."""
  for entry in entries():
    found = known.get(entry.key, {})
    rows = (row["error"] for row in found.get("rows", ()) if row["error"])
    said = found.get("error") or next(rows, "")
    if said:
      yield f"- {entry.key}: {said}"


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
