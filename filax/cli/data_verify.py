# SPDX-License-Identifier: Apache-2.0
"""filax data verify DIR: is every answer right, and can it be guessed without the video?

  filax data verify runs/longvid                       # the output of filax data longvid
  filax data verify runs/longvid --blind --out report  # and tries to guess answers from the text
  filax data verify public.json --blind                # any manifest of multiple choice

Answers are derived again from the annotation (tracks*.jsonl) without the code that wrote them. Exit
code 0: all good; 1: a check failed, or guessing succeeded; 2: nothing could be read.
"""

import argparse
import json
import pathlib
import sys

from filax.cli import options, outputs


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of `filax data verify`."""
  parser.description = __doc__
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("path", metavar="DIR", help="a folder with recipe.json, or a manifest")
  add("--blind", action="store_true", help="try to guess answers without the videos")
  add("--json", action="store_true", help="print JSON instead of text")
  add("--out", default="", help="folder for verify.json and blind.png")
  add("--tracks", nargs="+", default=(), help="files of tracks; default: DIR/tracks*.jsonl")
  add("--exclude-ids", nargs="+", default=(), help="lists of videos that must not occur")
  add("--workers", type=options.whole_number(1), help="processes; default: all processors")
  parser.set_defaults(run=_verify)


def _verify(args: argparse.Namespace) -> int:
  """Prints the result; returns the exit code."""
  from data_pipelines.chunk_pool import default_processes
  from data_pipelines.synthesis.blind.attack_set import attack_pool
  from data_pipelines.synthesis.blind.figure import draw_scores
  from data_pipelines.synthesis.verify.folder import BLIND_QUESTIONS, verify
  from filax import files

  if args.out:
    outputs.check_folder(args.out)
  result = verify(
    args.path,
    tracks=args.tracks,
    exclude=args.exclude_ids,
    blind=BLIND_QUESTIONS if args.blind else 0,
    processes=args.workers or default_processes(),
    progress=sys.stderr,
  )
  content = result.as_dict()
  lines = list(result.lines())
  is_good = result.is_good
  attacks = None
  if result.pool is not None:
    attacks = attack_pool(result.pool)
    content["blind"] = attacks.as_dict()
    lines += attacks.lines()
    is_good = is_good and attacks.is_good
  content["good"] = is_good
  if args.out:
    folder = pathlib.Path(args.out)
    with files.write_atomically(folder / "verify.json") as file:
      file.write(json.dumps(content, indent=2).encode() + b"\n")
    lines.append(f"Wrote {folder / 'verify.json'}")
    if attacks is not None and attacks.groups:
      draw_scores(attacks, folder / "blind.png")
      lines.append(f"Wrote {folder / 'blind.png'}")
  print(json.dumps(content, indent=2) if args.json else "\n".join(lines))
  return 0 if is_good else 1
