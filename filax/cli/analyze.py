# SPDX-License-Identifier: Apache-2.0
"""filax analyze attention|redundancy: which visual tokens the layers of a model need.

The measurements are those of Fig. 8 and 9 of VideoChat-Flash (arXiv:2501.00574).

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

from filax import files, released
from filax.cli import checkpoint_options, options, outputs
from filax.cli.terminal import without_controls

_DRAWINGS = (".png", ".pdf", ".svg")


def main(argv: Sequence[str]) -> None:
  """Measures, and writes a PNG with its JSON."""
  args = analyze_parser().parse_args(argv)
  outputs.check_file(args.out, _DRAWINGS)
  session = released.load(args.checkpoint, components=args.components)
  json_path = pathlib.Path(args.out).with_suffix(".json")
  if args.way == "attention":
    _attention(session, args, json_path)
  else:
    _redundancy(session, args, json_path)
  print(f"{args.out}, {json_path}")


def analyze_parser() -> argparse.ArgumentParser:
  """The options of `filax analyze`."""
  parser = options.Parser(
    prog="filax analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  studies = parser.add_subparsers(dest="way", required=True, parser_class=options.VerbParser)
  attention = _study_parser(studies, "attention")
  attention.add_argument(
    "--video", action=options.Single, required=True, help="a video file, or a folder of pictures"
  )
  attention.add_argument(
    "--question", action=options.Single, required=True, help="a question about the video"
  )
  redundancy = _study_parser(studies, "redundancy")
  add = redundancy.add_argument
  add(
    "--manifest",
    action=options.Single,
    required=True,
    help="questions, in the format of the training data",
  )
  add("--root", default="", help="folder of the media; default: that of the questions")
  add("--allow-missing", action="store_true", help="ask about what is there; count the rest")
  add(
    "--ratio",
    type=options.number(high=1, above=True),
    default=0.5,
    help="share of the visual tokens that stay",
  )
  add("--layers", type=options.whole_numbers(0), help="numbers with commas; default: all")
  add("--limit", type=options.whole_number(1), help="ask only this many questions")
  add("--batch", type=options.whole_number(1), default=32, help="prompts at a time; default: 32")
  return parser


def _study_parser(studies, name: str) -> argparse.ArgumentParser:
  """The parser of a study with the options that all studies have."""
  parser = studies.add_parser(name)
  checkpoint_options.add_checkpoint(parser)
  parser.add_argument("--out", required=True, help="the PNG; the JSON is written beside it")
  return parser


def _attention(session, args: argparse.Namespace, json_path: pathlib.Path) -> None:
  from filax.studies.attention_map import attention_map, draw_attention

  report = attention_map(session, args.video, args.question)
  _write_json(json_path, report)
  draw_attention(report, args.out)


def _redundancy(session, args: argparse.Namespace, json_path: pathlib.Path) -> None:
  from filax.studies.redundancy import draw_redundancy, redundancy

  report = redundancy(
    session,
    args.manifest,
    ratio=args.ratio,
    layers=args.layers,
    limit=args.limit,
    batch=args.batch,
    root=args.root,
    allow_missing=args.allow_missing,
    keep=functools.partial(_write_json, json_path),
  )
  _write_json(json_path, report)
  draw_redundancy(report, args.out)
  for line in report["bad_questions"]:
    print(f"skipped {without_controls(line)}", file=sys.stderr)


def _write_json(path: pathlib.Path, report: dict[str, Any]) -> None:
  with files.write_atomically(path) as file:
    text = json.dumps(report, indent=2) + "\n"
    file.write(text.encode())
