# SPDX-License-Identifier: Apache-2.0
"""Plans every stage and the longest contexts for TPUs: docs/plan.md.

  make plan                                   # All of it, hours on a laptop; keeps existing plans.
  python -m benchmarks.plan_grid --only fila       # Entries whose name has "fila" in it.
  python -m benchmarks.plan_grid --render          # Just the page, from the JSON beside it.
  python -m benchmarks.plan_grid --choices         # What "auto" chooses; a minute, no compiler.

Each entry is `filax plan` in a process of its own. Two runs with different --only may go
on side by side.
"""

import argparse
from collections.abc import Sequence
import datetime
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

from benchmarks import plan_entries, plan_page
from benchmarks.plan_entries import Entry
from benchmarks.plan_page import Plans
from filax.cli import config_flags
from filax.plan import program, topology
from filax.train.setup import Setup, prepare
from filax.train.step_work import train_work

PAGE = pathlib.Path("docs/plan.md")
NUMBERS = pathlib.Path("docs/plan.json")
CHOICES = pathlib.Path("docs/plan_choices.json")
VERSIONS = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))


def main(argv: Sequence[str]) -> int:
  """Plans the entries that are due, and writes the page."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.plan_grid",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--only", default="", help="entries whose name or slice has this in it")
  parser.add_argument("--again", action="store_true", help="plan what docs/plan.json has as well")
  parser.add_argument("--render", action="store_true", help="write the page and stop")
  add = parser.add_argument
  add("--choices", action="store_true", help='write what "auto" chooses, and the page, and stop')
  args = parser.parse_args(argv)
  if args.choices:
    CHOICES.write_text(json.dumps(all_choices(), indent=1) + "\n")
  elif not args.render:
    plan_due(due_entries(args.only, args.again))
  write_page(load_plans())
  return 0


def due_entries(only: str, again: bool) -> list[Entry]:
  """Entries with `only` in their key; planned ones only if `again`."""
  plans = load_plans()
  due = []
  for entry in plan_entries.entries():
    if only in entry.key and (again or entry.key not in plans):
      due.append(entry)
  return due


def plan_due(due: Sequence[Entry]) -> None:
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


def all_choices() -> list[dict[str, Any]]:
  """What "auto" chooses for every stage on every slice."""
  choices = []
  for entry in plan_entries.stage_entries():
    choices.append(choice(entry))
  return choices


def choice(entry: Entry) -> dict[str, Any]:
  """What "auto" chooses for a stage, and the arithmetic of both."""
  slice_ = topology.parse_topology(entry.topology)
  before = stage_setup(entry.config, slice_, entry.changes)
  after = stage_setup(entry.config, slice_, ())
  fit = after.fit
  if fit is None:
    raise ValueError(f"{entry.config} leaves no setting open.")
  return dict(
    config=entry.name,
    slice=entry.topology,
    before_seconds=arithmetic_seconds(entry.config, before, slice_),
    encoder=fit.policy.encoder,
    llm=fit.policy.llm,
    parts=fit.policy.parts,
    bytes=fit.bytes.peak,
    device_bytes=fit.device_bytes,
    seconds=arithmetic_seconds(entry.config, after, slice_),
  )


def stage_setup(path: str, slice_: topology.Topology, changes: Sequence[str]) -> Setup:
  """The setup of a config on a slice."""
  config, _ = config_flags.read_config([f"--config={path}", *changes])
  return prepare(config.to_dict(), 1000, slice_.devices(), slice_.chip.hbm)


def arithmetic_seconds(path: str, setup: Setup, slice_: topology.Topology) -> float:
  """The least seconds of a step's FLOPs."""
  config, _ = config_flags.read_config([f"--config={path}"])
  row = program.config_rows(config.to_dict(), setup.model)[-1]
  work = train_work(setup.model, setup.like.params, setup.optimizer.rates, row)
  return work.hardware * config.batch / (slice_.chips * slice_.chip.flops)


def load_plans() -> Plans:
  """docs/plan.json: key of an entry -> its plan."""
  if not NUMBERS.exists():
    return {}
  return json.loads(NUMBERS.read_text())


def write_page(plans: Plans) -> None:
  """Writes docs/plan.md."""
  choices = json.loads(CHOICES.read_text()) if CHOICES.exists() else []
  PAGE.write_text("\n".join(plan_page.page(plans, choices)) + "\n")


def run_entry(entry: Entry) -> dict[str, Any]:
  """The plan of an entry, or the error of its command."""
  process = subprocess.run(entry.command, capture_output=True, text=True, check=False)
  if process.returncode not in (0, 1):  # Such as -9, where memory ran out.
    lines = process.stderr.strip().splitlines()
    return dict(error=lines[-1] if lines else f"ended with code {process.returncode}")
  return json.loads(process.stdout)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
