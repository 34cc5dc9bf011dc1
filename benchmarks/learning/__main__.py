# SPDX-License-Identifier: Apache-2.0
"""Trains FiLax and PyTorch side by side, and compares their losses step by step.

  python -m benchmarks.learning --out runs/learning                     # FiLA-Video
  python -m benchmarks.learning --out runs/learning --model flash       # VideoChat-Flash

The toy config's first stage is trained several times on the same batches of the real loader (packed
rows of H.264 clips; encoder, merger, projector and language model all learn):

  filax    the jitted step of `filax train`
  control  the same from parameters that differ by one ulp in one weight
  twin     the exported parameters, in the exported PyTorch model, with torch.optim.AdamW
  paired   (flash) a twin that merges those pairs of tokens that FiLax merges

OUT gets MODEL-SEED.json (every loss and gradient norm), .md (a table) and .png (curves). The exit
code is 1 if a twin is further away than the control allows (benchmarks/learning/verdict.py).
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
  wanted = parser().parse_args(argv)
  import torch

  from benchmarks.learning import curves, recipe, report

  start = time.perf_counter()
  wanted.out.mkdir(parents=True, exist_ok=True)
  torch.set_num_threads(1)  # In products so small, a second thread costs more than it brings.
  prepared = recipe.prepare_recipe(
    wanted.model, wanted.out, wanted.steps, wanted.seed, wanted.rows, wanted.videos
  )
  comparison = curves.compare_runs(prepared, wanted.steps)
  verdicts = curves.judge_twins(comparison.curves)
  facts = run_facts(wanted, prepared.config["batch"], time.perf_counter() - start)
  name = f"{wanted.model}-{wanted.seed}"
  for path in report.write_curves(wanted.out, name, comparison, verdicts, facts):
    print(f"Wrote {path}", file=sys.stderr)
  for run, judged in verdicts.items():
    print("\n".join(judged.lines(run)))
  return 0 if all(judged.agrees for judged in verdicts.values()) else 1


def run_facts(wanted: argparse.Namespace, rows: int, seconds: float) -> dict[str, Any]:
  """What was run, where and how long."""
  words = TITLES[wanted.model]
  return dict(
    title=f"{words}, {wanted.steps} steps of {rows} packed rows, seed {wanted.seed}",
    model=wanted.model,
    steps=wanted.steps,
    seed=wanted.seed,
    rows=rows,
    videos=wanted.videos,
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
  add("--seed", type=options.whole_number(0), default=0, help="of corpus, order and first weights")
  add("--rows", type=options.whole_number(0), default=0, help="of a step; default: the config's 8")
  add("--videos", type=options.whole_number(1), default=300, help="videos of the corpus")
  add("--out", type=pathlib.Path, default=pathlib.Path("runs/learning"), help="folder of results")
  return parser


if __name__ == "__main__":
  sys.exit(main())
