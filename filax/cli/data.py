# SPDX-License-Identifier: Apache-2.0
"""filax data check MANIFEST reports what is wrong in a manifest; filax data build packs one.

Exit code 0: all good; 1: some records are bad (they are listed); 2: nothing could be done.
"""

import argparse
from collections.abc import Sequence
import json
import os
import sys

from filax.cli import options


def main(argv: Sequence[str]) -> int:
  """Runs `check` or `build`; returns the exit code."""
  args = _parser().parse_args(list(argv))
  return args.run(args)


def _parser() -> argparse.ArgumentParser:
  parser = options.Parser(prog="filax data", description=__doc__.splitlines()[0])
  verbs = parser.add_subparsers(required=True, metavar="check|build")
  check = verbs.add_parser("check", help="report bad records, unreadable media and statistics")
  check.add_argument("--decode", action="store_true", help="read every frame of every medium")
  check.add_argument("--tokenizer", default="", help="tokenizer.json or *.model: lengths in tokens")
  check.add_argument("--out", default="", help="folder for check.json and histograms as PNG")
  check.add_argument("--json", action="store_true", help="print JSON instead of text")
  check.add_argument("--threads", type=options.whole(1), default=os.cpu_count() or 1)
  check.set_defaults(run=_check)
  build = verbs.add_parser("build", help="pack a manifest and its media into ArrayRecord files")
  build.add_argument("--out", required=True, help="a folder that does not hold a data set yet")
  build.add_argument(
    "--proxy",
    default="",
    metavar="FPS,SIDE",
    help="store videos longer than a minute smaller, e.g. 2,384",
  )
  build.add_argument("--beam", default="", metavar="RUNNER", help="e.g. DirectRunner")
  build.set_defaults(run=_build)
  for verb in (check, build):
    verb.add_argument("manifest", metavar="MANIFEST", help=".json, .jsonl or ….array_record")
    verb.add_argument("--root", default="", help="folder of the media; default: the manifest's")
  return parser


def _check(args) -> int:
  from data_pipelines.text import tokenizers
  from data_pipelines.tools import check

  encode = tokenizers.load(args.tokenizer).encode if args.tokenizer else None
  result = check.check(
    args.manifest,
    args.root,
    decode=args.decode,
    encode=encode,
    threads=args.threads,
    progress=sys.stderr,
  )
  written = check.write(result, args.out) if args.out else []
  if args.json:
    print(json.dumps(result.as_dict() | {"files": written}, indent=2))
  else:
    print("\n".join([*result.lines(), *(f"Wrote {path}" for path in written)]))
  return 1 if result.report.bad else 0


def _build(args) -> int:
  from data_pipelines.tools import build_array_record

  proxy = build_array_record.Proxy.parse(args.proxy) if args.proxy else None
  built = build_array_record.build(
    args.manifest, args.out, root=args.root, proxy=proxy, beam=args.beam
  )
  print("\n".join(map(str, built.report.bad)), end="\n" if built.report.bad else "")
  print(
    f"Wrote {built.samples} samples and {built.media} media ({built.bytes / 1e6:.1f} MB) to "
    f"{args.out}; {len(built.report.bad)} records were left out. "
    f"The manifest is {os.path.join(args.out, build_array_record.MANIFEST)}."
  )
  return 1 if built.report.bad else 0
