# SPDX-License-Identifier: Apache-2.0
"""Compares recordings of two checkouts, to show that nothing changed.

  python -m benchmarks.same record ../before /tmp/before
  python -m benchmarks.same record . /tmp/after --from /tmp/before
  python -m benchmarks.same compare /tmp/before /tmp/after     # Exit code 1 if anything differs.
  python -m benchmarks.same record . /tmp/quick --from /tmp/before --part losses,hlo

Parts:
  losses     the first 20 steps of tiny runs: log records, checkpoints and the toy corpora
  hlo        the optimised HLO of their train steps (recorded together with losses)
  stablehlo  the train steps of all stages at full size, lowered for 64 chips of v5p (libtpu)
  exports    the files of `filax convert to` in every form, and the arrays of the way back
  resume     answers of `filax chat` and `evals`, and five more steps of every run

Losses and arrays are compared bit by bit, programs after names have become numbers, in the order in
which they appear, and without source positions. Python files of exports are a part of their own,
`code`, whose differences are printed but do not count.

With --from, corpora, checkpoints and run folders are those of that recording: the new checkout
resumes, answers and exports what the old one wrote. Without it a checkout uses its own. Checkouts
are used by their command line alone, so modules may move between them. Compare recordings of the
same machine, jax and --xla-flags only.
"""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import jax

from benchmarks import same_store
from benchmarks.same_commands import Checkout
from benchmarks.same_record import Recorder

CONDITIONS = "conditions.json"
PARTS = ("losses", "hlo", "stablehlo", "exports", "resume")
WRITTEN = dict(losses=("losses", "hlo", "corpus"), exports=("exports", "code"))  # Part -> facts.


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb; returns the exit code."""
  options = parser().parse_args(argv)
  return options.run(options)


def parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="benchmarks.same",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  verbs = parser.add_subparsers(required=True, metavar="record|compare")
  record_parser = verbs.add_parser("record", help="run a checkout and keep its facts")
  record_parser.set_defaults(run=record)
  record_parser.add_argument("checkout", type=pathlib.Path, help="root of a tree of the project")
  record_parser.add_argument("out", type=pathlib.Path, help="folder of the recording")
  record_parser.add_argument("--part", type=part_names, default=PARTS, help="default: all parts")
  record_parser.add_argument(
    "--from", dest="source", type=pathlib.Path, help="recording whose corpora and runs are used"
  )
  record_parser.add_argument("--xla-flags", default="", help="XLA_FLAGS of every command")
  compare_parser = verbs.add_parser("compare", help="compare two recordings")
  compare_parser.set_defaults(run=compare)
  compare_parser.add_argument("before", type=pathlib.Path)
  compare_parser.add_argument("after", type=pathlib.Path)
  return parser


def part_names(text: str) -> tuple[str, ...]:
  """An argparse type: names of parts with commas between them."""
  names = tuple(text.split(","))
  for name in names:
    if name not in PARTS:
      raise argparse.ArgumentTypeError(f"{name!r} is not a part. Parts are {', '.join(PARTS)}.")
  return names


def record(options: argparse.Namespace) -> int:
  """Records the parts of a checkout, replacing earlier ones."""
  out = options.out.resolve()
  store = same_store.Recording(out)
  checkout = Checkout(options.checkout.resolve(), out / "logs", options.xla_flags)
  recorder = Recorder(checkout, store, (options.source or out).resolve())
  out.mkdir(parents=True, exist_ok=True)
  conditions = json.dumps(conditions_of(checkout), indent=1)
  (out / CONDITIONS).write_text(f"{conditions}\n")
  for part in parts_to_run(options.part):
    start = time.perf_counter()
    for written in WRITTEN.get(part, (part,)):
      store.forget(written)
    if part == "losses":
      recorder.train("hlo" in options.part)
    elif part == "stablehlo":
      recorder.lower()
    elif part == "exports":
      recorder.export()
    else:
      recorder.resume()
    print(f"{part}: {time.perf_counter() - start:.0f} s", flush=True)
  return 0


def parts_to_run(names: Sequence[str]) -> tuple[str, ...]:
  """The parts to record, one after the other.

  losses and hlo come from the same runs.
  """
  wanted = {"losses" if name == "hlo" else name for name in names}
  return tuple(part for part in PARTS if part in wanted)


def conditions_of(checkout: Checkout) -> dict[str, str | int | None]:
  """The commit of a recording, and its machine, versions and flags.

  All but the commit must be equal for two recordings to be comparable.
  """
  command = ["git", "-C", str(checkout.root), "describe", "--always", "--dirty"]
  commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
  return {
    "commit": commit,
    "jax": jax.__version__,
    "machine": platform.node(),
    "cores": os.cpu_count(),
    "xla_flags": checkout.flags,
  }


def compare(options: argparse.Namespace) -> int:
  """Prints the differences of two recordings -> 1 if there are any."""
  for folder in (options.before, options.after):
    text = (folder / CONDITIONS).read_text()
    print(f"{folder}: {' '.join(text.split())}")
  before = same_store.Recording(options.before)
  after = same_store.Recording(options.after)
  equal, differences = same_store.compare(before, after)
  print("\n".join(same_store.table(equal, differences)))
  for part in sorted(same_store.parts(before.digests()) ^ same_store.parts(after.digests())):
    print(f"{part}: not compared, only one of the recordings has it")
  failed = same_store.fails(differences)
  print("DIFFERENT" if failed else "EQUAL")
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
