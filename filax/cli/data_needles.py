# SPDX-License-Identifier: Apache-2.0
"""filax data needles: questions about cards hidden in long videos, to train and to test with.

  filax data needles --out data/needles --count 20000 --minutes 5
  filax data needles --out data/needles --count 20000 --frames 256 --haystack videos/*.mp4

The cards and questions are those of `filax evals niah`. held_out.jsonl has other kinds of cards, in
other haystacks. Without --haystack the haystacks are drawn.
"""

import argparse
import json

from filax import settings
from filax.cli import options

_MOST_MINUTES = 100_000  # Ten weeks.


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of `filax data needles`."""
  parser.description = __doc__
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("--out", required=True, help="folder: new, empty, or of the same recipe")
  add("--count", type=options.whole_number(1), default=1000, help="questions for training [1000]")
  add("--held-out", type=options.whole_number(0), default=100, help="held-out questions [100]")
  add(
    "--hops",
    choices=("single", "multi", "both"),
    default="both",
    help="one card per question, a chain, or both [both]",
  )
  length = parser.add_mutually_exclusive_group()
  length.add_argument(
    "--frames",
    type=options.whole_number(4, 60 * _MOST_MINUTES),
    help="haystack frames, one per second [64]",
  )
  length.add_argument(
    "--minutes",
    type=options.number(0.1, high=_MOST_MINUTES),
    help="length of the haystack, in place of --frames",
  )
  add("--needle-seconds", type=options.number(0.1), default=4.0, help="seconds per card [4]")
  add("--haystack", nargs="+", default=(), metavar="FILE", help="videos; default: drawn")
  add("--side", type=options.whole_number(16), default=96, help="pixels of drawn pictures [96]")
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=0,
    help="another one makes other questions [0]",
  )
  add("--force", action="store_true", help="replace another output")
  add("--json", action="store_true", help="print the counts as JSON")
  parser.set_defaults(run=_make_needles)


def _make_needles(args: argparse.Namespace) -> int:
  from data_pipelines.synthesis.needle_sets import NeedleSetOptions, write_needles

  if args.side % 2:
    raise ValueError(f"--side {args.side} is odd. Videos have even sides.")
  seconds = 60 * args.minutes if args.minutes else args.frames or 64
  wanted = NeedleSetOptions(
    count=args.count,
    held_out=args.held_out,
    seconds=float(seconds),
    needle_seconds=args.needle_seconds,
    hops=args.hops,
    haystack=tuple(args.haystack),
    side=args.side,
    seed=args.seed,
  )
  counts = write_needles(args.out, wanted, force=args.force)
  if args.json:
    print(json.dumps(counts))
  else:
    print(f"{args.out}: {counts['train']} questions for training, {counts['held_out']} held out.")
  return 0
