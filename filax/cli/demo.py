# SPDX-License-Identifier: Apache-2.0
"""filax demo makes a corpus, trains a tiny FiLA on it, and reports its scores.

Runs on a CPU, for about eight minutes on two cores. The same command continues a demo that was
stopped. Open report.html in the workdir afterwards.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import shutil
import sys
import time

import psutil

from filax import settings
from filax.cli import options


def main(argv: Sequence[str]) -> None:
  """Runs the phases that are not done yet, or checks their report."""
  args = demo_parser().parse_args(argv)
  workdir = pathlib.Path(args.workdir)
  if args.check:
    from filax.demo.report import check_report

    print(check_report(workdir / "report.json"))
    return
  from filax.demo.phases import DemoSettings, run_demo

  steps = (args.stage1_steps, args.stage2_steps)
  settings = DemoSettings(args.videos, args.held, args.seed, steps)
  seconds_before = time.time() - psutil.Process().create_time()
  print(json.dumps(run_demo(workdir, settings, seconds_before), indent=2), flush=True)
  print(_next_command(workdir), file=sys.stderr, flush=True)


def _next_command(workdir: pathlib.Path) -> str:
  """The command that opens the demo's model in a browser."""
  program = pathlib.Path(sys.argv[0])
  name = program if program.name == "filax" and not shutil.which("filax") else "filax"
  return f"[demo] Ask it in your browser: {name} serve --checkpoint {workdir / 'stage2'}"


def demo_parser() -> argparse.ArgumentParser:
  """The options of `filax demo`."""
  parser = options.Parser(prog="filax demo", description=__doc__)
  add = parser.add_argument
  add("--workdir", default="runs/demo", help="folder for the corpus, the runs and the report")
  add(
    "--check",
    action="store_true",
    help="train nothing; check that the scores of an earlier demo are high enough",
  )
  add("--videos", type=options.whole_number(1), default=300, help="videos for training")
  add("--held", type=options.whole_number(1), default=64, help="held-out videos")
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=0,
    help="of the corpus and of the training",
  )
  add(
    "--stage1-steps",
    type=options.whole_number(0),
    default=0,
    help="training steps of stage 1; default: as configs/fila_toy.py says",
  )
  add("--stage2-steps", type=options.whole_number(0), default=0, help="the same of stage 2")
  return parser
