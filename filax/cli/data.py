# SPDX-License-Identifier: Apache-2.0
"""filax data: check, pack, reformat, make, verify and look at training data.

Exit code 0: all good; 1: some records are bad (they are listed); 2: nothing could be done.
"""

import argparse
from collections.abc import Sequence
import importlib
import json
import os
import sys

from filax import host_limits
from filax.cli import (
  data_longvid,
  data_needles,
  data_reformat,
  data_synthesize,
  data_verify,
  data_world,
  options,
  outputs,
)

OWN_FILES = {  # Verbs that read a config -> module with a main(argv).
  "status": "filax.cli.data_status",
  "view": "filax.cli.data_view",
}

MANIFEST = ".json, .jsonl, .csv, .parquet, .tar …, or a pattern of such files in quotes"
CHECK = """filax data check MANIFEST [MANIFEST ...]

Reads all records, the header and first frame of each video, and each picture. Lists every bad
record with its file and line, and every file that cannot be read. Counts samples, turns, words and
hours.

  filax data check train.json
  filax data check train.json --decode               # also decodes every frame: slow, but sure
  filax data check train.json --out runs/check       # also draws histograms
  filax data check 'shards/train-*.jsonl'            # all shards together; none may be missing

Exit code 0: all records are good; 1: some are bad; 2: the manifest cannot be read.
"""
BUILD = """filax data build MANIFEST --out DIR

Packs the records of a manifest and their media into a few large files (ArrayRecord). They are
faster to copy and to read than many small files, above all from a bucket. DIR/manifest.jsonl can
be used in config.data.train.

  filax data build train.json --out data/packed
  filax data build train.json --out data/packed --proxy 2,384   # long videos at 2 frames a second
  filax data build 'shards/train-*.jsonl' --out data/packed     # all shards together

Exit code 0: all records are packed; 1: some were left out, and are listed; 2: nothing was packed.
"""


def main(argv: Sequence[str]) -> int:
  """Runs a verb; returns the exit code."""
  verb = argv[0] if argv else ""
  if verb in OWN_FILES:
    return importlib.import_module(OWN_FILES[verb]).main(argv[1:])
  args = data_parser().parse_args(list(argv))
  return args.run(args)


def data_parser() -> argparse.ArgumentParser:
  """The options of all verbs."""
  parser = options.Parser(prog="filax data", description=(__doc__ or "").partition("\n")[0])
  verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=options.VerbParser)
  _add_check(
    verbs.add_parser("check", help="list bad records and unreadable media, print statistics")
  )
  _add_build(verbs.add_parser("build", help="pack a manifest and its media into ArrayRecord files"))
  data_reformat.add_parser(verbs)
  verbs.add_parser("status", help="which data of a config are present, and where to get the rest")
  verbs.add_parser("view", help="a page that shows what a config trains on")
  data_synthesize.add_options(
    verbs.add_parser("synthesize", help="make long videos from captioned clips")
  )
  data_longvid.add_longvid_options(
    verbs.add_parser("longvid", help="make questions about long videos from annotated sources")
  )
  data_verify.add_options(
    verbs.add_parser("verify", help="check answers, and try to guess them without the videos")
  )
  data_needles.add_options(
    verbs.add_parser("needles", help="hide cards in long videos, and ask about them")
  )
  data_world.add_world_options(
    verbs.add_parser("world", help="make a small world of scenes, with questions of many kinds")
  )
  return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
  parser.description = CHECK
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("--decode", action="store_true", help="read every frame of every medium")
  add("--tokenizer", default="", help="tokenizer.json or *.model: lengths in tokens")
  add("--out", default="", help="folder for check.json and histograms as PNG")
  add("--json", action="store_true", help="print JSON instead of text")
  threads = host_limits.usable_cpus()
  add(
    "--threads",
    type=options.whole_number(1),
    default=threads,
    help="media that are read at a time [one per processor]",
  )
  add("manifests", nargs="+", metavar="MANIFEST", help=MANIFEST)
  _add_root(parser)
  parser.set_defaults(run=_check)


def _add_build(parser: argparse.ArgumentParser) -> None:
  parser.description = BUILD
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("--out", required=True, help="a folder that does not hold a data set yet")
  add(
    "--proxy",
    default="",
    metavar="FPS,SIDE",
    help="store videos longer than a minute smaller, e.g. 2,384",
  )
  add(
    "--beam",
    default="",
    metavar="RUNNER",
    help="a runner of Apache Beam for the media, e.g. DirectRunner",
  )
  add("manifest", metavar="MANIFEST", help=MANIFEST)
  _add_root(parser)
  parser.set_defaults(run=_build)


def _add_root(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--root", default="", help="folder of the media; default: the manifest's")


def _check(args: argparse.Namespace) -> int:
  from data_pipelines.text import tokenizers
  from data_pipelines.tools import check

  if args.out:
    outputs.check_folder(args.out)
  encode = None
  if args.tokenizer:
    remedy = tokenizers.set_to("--tokenizer")
    encode = tokenizers.load_tokenizer(args.tokenizer, remedy).encode
  result = check.check_manifests(
    args.manifests,
    args.root,
    decode=args.decode,
    encode=encode,
    threads=args.threads,
    progress=sys.stderr,
  )
  written = check.write_report(result, args.out) if args.out else []
  if args.json:
    print(json.dumps(result.as_dict() | {"files": written}, indent=2))
  else:
    lines = list(result.lines())
    if any(reason.endswith("does not exist.") for reason in result.unreadable.values()):
      lines.append("Paths are relative to the folder of the manifest; --root names another folder.")
    for path in written:
      lines.append(f"Wrote {path}")
    print("\n".join(lines))
  return 1 if result.report.bad else 0


def _build(args: argparse.Namespace) -> int:
  from data_pipelines.tools import build_array_record

  proxy = build_array_record.Proxy.from_text(args.proxy) if args.proxy else None
  built = build_array_record.build_data_set(
    args.manifest, args.out, root=args.root, proxy=proxy, beam=args.beam
  )
  for record in built.report.bad:
    print(record)
  print(
    f"Wrote {built.samples} samples and {built.media} media ({built.bytes / 1e6:.1f} MB) to "
    f"{args.out}; {len(built.report.bad)} records were left out. "
    f"The manifest is {os.path.join(args.out, build_array_record.MANIFEST)}."
  )
  return 1 if built.report.bad else 0
