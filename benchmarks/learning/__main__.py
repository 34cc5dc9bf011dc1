# SPDX-License-Identifier: Apache-2.0
"""Trains FiLax and PyTorch side by side, and compares their losses step by step.

  python -m benchmarks.learning --out runs/learning                     # FiLA-Video
  python -m benchmarks.learning --out runs/learning --model flash       # VideoChat-Flash

The first stage of a toy config is trained several times, each time on the same batches of the real
loader. The batches are packed rows of H.264 clips, and all parts of the model are trained. The
runs:

  filax    the jitted step of `filax train`
  control  the same step, but one weight of the first parameters differs by one ulp
  twin     the exported PyTorch model with the exported parameters and torch.optim.AdamW
  paired   (only flash) a twin that merges the same pairs of tokens as FiLax

OUT receives MODEL-SEED.json (every loss and gradient norm), .md (a table) and .png (the curves).
The exit code is 1 if a twin's losses differ from those of FiLax by more than is allowed; the
control shows how much (benchmarks/learning/verdict.py).
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys
import time
from typing import Any

from benchmarks import machine
from filax.cli import options

TITLES = {"fila": "FiLA-Video at toy size", "flash": "VideoChat-Flash at toy size"}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the comparison; returns the exit code."""
  args = parser().parse_args(argv)
  import torch

  from benchmarks.learning import curves, recipe, report

  start = time.perf_counter()
  args.out.mkdir(parents=True, exist_ok=True)
  torch.set_num_threads(1)  # The matrices are so small that a second thread is slower.
  prepared = recipe.prepare_recipe(
    args.model, args.out, args.steps, args.seed, args.rows, args.videos
  )
  comparison = curves.compare_runs(prepared, args.steps)
  verdicts = curves.judge_twins(comparison.curves)
  seconds = time.perf_counter() - start
  facts = run_facts(args, prepared.config["batch"], seconds)
  name = f"{args.model}-{args.seed}"
  for path in report.write_curves(args.out, name, comparison, verdicts, facts):
    print(f"Wrote {path}", file=sys.stderr)
  for run, verdict in verdicts.items():
    print("\n".join(verdict.lines(run)))
  all_agree = all(verdict.agrees for verdict in verdicts.values())
  return 0 if all_agree else 1


def run_facts(args: argparse.Namespace, rows: int, seconds: float) -> dict[str, Any]:
  """The settings, the machine and the duration of the comparison."""
  title = f"{TITLES[args.model]}, {args.steps} steps of {rows} packed rows, seed {args.seed}"
  return dict(
    title=title,
    model=args.model,
    steps=args.steps,
    seed=args.seed,
    rows=rows,
    videos=args.videos,
    total_seconds=round(seconds, 1),
    machine=machine.describe_machine(),
  )


def parser() -> argparse.ArgumentParser:
  """The options of the comparison."""
  parser = argparse.ArgumentParser(
    prog="benchmarks.learning",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--model", choices=tuple(TITLES), default="fila", help="default: fila")
  add("--steps", type=options.whole_number(2), default=300, help="default: 300")
  add(
    "--seed",
    type=options.whole_number(0),
    default=0,
    help="seed of the corpus, the order of samples and the first parameters; default: 0",
  )
  add(
    "--rows",
    type=options.whole_number(0),
    default=0,
    help="packed rows per step; default: the config's 8",
  )
  add(
    "--videos", type=options.whole_number(1), default=300, help="videos in the corpus; default: 300"
  )
  add("--out", type=pathlib.Path, default=pathlib.Path("runs/learning"), help="folder for results")
  return parser


if __name__ == "__main__":
  sys.exit(main())
