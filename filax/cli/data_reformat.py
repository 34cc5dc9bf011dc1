# SPDX-License-Identifier: Apache-2.0
"""filax data reformat IN OUT

Writes a manifest in another format. The ending of OUT chooses the kind of file, and --shape how a
record is written. What OUT cannot hold is counted and printed.

  filax data reformat train.parquet train.jsonl --shape messages   # for ms-swift, OpenAI's format
  filax data reformat train.jsonl train.json --shape llava         # for LLaVA and its relatives
  filax data reformat train.json train.tar                         # a WebDataset, with the media
  filax data reformat train.json train.parquet --bytes             # a table, with the media

Exit code 0: all records are written; 1: some were left out, and are listed; 2: nothing was written.
"""

import argparse
import sys

SHAPES = ("llava", "messages")


def add_parser(verbs) -> None:
  """Adds `reformat` to the verbs of `filax data`."""
  parser = verbs.add_parser("reformat", help="write a manifest in another format")
  parser.description = __doc__
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  add = parser.add_argument
  add("manifest", metavar="IN", help=".json, .jsonl, .csv, .parquet, .tar or ….array_record")
  add("out", metavar="OUT", help=".json, .jsonl, .parquet or .tar")
  add("--shape", default="", choices=SHAPES, help="of the records; default: as they are")
  add("--bytes", action="store_true", help="store media in a .parquet; a .tar always holds them")
  add("--root", default="", help="folder of the media; default: the manifest's")
  add("--force", action="store_true", help="replace OUT")
  parser.set_defaults(run=_reformat)


def _reformat(args: argparse.Namespace) -> int:
  from data_pipelines.tools import reformat

  result = reformat.reformat_manifest(
    args.manifest,
    args.out,
    shape=args.shape,
    root=args.root,
    content=args.bytes,
    force=args.force,
    progress=sys.stderr,
  )
  for bad in result.report.bad:
    print(bad)
  print(f"Wrote {result.records} records to {args.out}; {len(result.report.bad)} were left out.")
  for lost, count in sorted(result.lost.items()):
    print(f"Lost in {count} records: {lost}")
  return 1 if result.report.bad else 0
