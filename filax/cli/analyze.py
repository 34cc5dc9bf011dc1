# SPDX-License-Identifier: Apache-2.0
"""Which visual tokens the layers of a model need (VideoChat-Flash, arXiv:2501.00574, Fig. 8 and 9).

  filax analyze attention --checkpoint DIR --video FILE --question TEXT --out attention.png
      How much the last token of the prompt attends to each group of frames, layer by layer.
  filax analyze redundancy --checkpoint DIR --manifest FILE --out redundancy.png [--ratio 0.5]
      Accuracy when visual tokens fall to a ratio after each layer, chosen evenly or by attention.

Each writes a PNG, and beside it a JSON file with the numbers.
"""

import argparse
from collections.abc import Sequence
import functools
import json
import pathlib
import sys
from typing import Any

from filax import files
from filax.cli import options
from filax.models import components
from filax.studies import attention_map, redundancy


def main(argv: Sequence[str]) -> None:
  """argv without the verb."""
  made = options.Parser(
    prog="filax analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  ways = made.add_subparsers(dest="way", required=True)
  for way in ("attention", "redundancy"):
    add = ways.add_parser(way).add_argument
    add("--checkpoint", required=True, help="folder of a run, or of one of its checkpoints")
    add(
      "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
    )
    add("--out", required=True, help="the PNG; the JSON lies beside it")
    if way == "attention":
      add("--video", required=True)
      add("--question", required=True)
    else:
      add("--manifest", required=True, help="questions, in the format of the training data")
      add(
        "--ratio",
        type=options.number(high=1, above=True),
        default=0.5,
        help="share of the visual tokens that stay",
      )
      add("--layers", type=options.wholes(0), help="numbers with commas; default: all")
      add("--limit", type=options.whole(1), help="ask only so many questions")
      add("--batch", type=options.whole(1), default=32)
  args = made.parse_args(argv)
  from filax.infer.session import load

  model, params = load(args.checkpoint, components=args.components)
  numbers = pathlib.Path(args.out).with_suffix(".json")
  if args.way == "attention":
    report = attention_map.attention(model, params, args.video, args.question)
    _write(numbers, report)
    attention_map.draw(report, args.out)
  else:
    report = redundancy.redundancy(
      model,
      params,
      args.manifest,
      ratio=args.ratio,
      layers=args.layers,
      limit=args.limit,
      batch=args.batch,
      keep=functools.partial(_write, numbers),
    )
    _write(numbers, report)
    redundancy.draw(report, args.out)
    for line in report["bad_questions"]:
      print(f"skipped {line}", file=sys.stderr)
  print(f"{args.out}, {numbers}")


def _write(path: pathlib.Path, report: dict[str, Any]) -> None:
  with files.write_atomically(path) as file:
    file.write((json.dumps(report, indent=2) + "\n").encode())
