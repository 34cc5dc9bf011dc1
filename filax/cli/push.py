# SPDX-License-Identifier: Apache-2.0
"""filax push publishes a run on the Hugging Face hub, with a model card."""

import argparse
from collections.abc import Sequence
import json
import pathlib

from filax import files
from filax.cli import checkpoint_options, options

DESCRIPTION = """Publish a run, or an exported folder, on the Hugging Face hub.

  filax push runs/demo/stage2 --repo me/fila-demo          shows what would be uploaded
  filax push runs/demo/stage2 --repo me/fila-demo --yes    uploads it

The model card is written from the run's config, data, scores and plan. Only weights, config and
tokenizer are published: no optimizer state, no logs, no paths of this machine."""


def main(argv: Sequence[str]) -> None:
  """filax push FOLDER --repo ORG/NAME [--yes]"""
  from filax.hub import staging, upload

  args = push_parser().parse_args(argv)
  repo = upload.check_repo(args.repo)
  out = args.out or f"{files.absolute(args.folder).rstrip('/')}-hub"
  published = staging.Published(
    repo, args.license, args.base_model, tuple(args.results), tuple(args.components)
  )
  staged = staging.stage_folder(args.folder, out, published, weights=args.yes)
  address = ""
  if args.yes:
    address = upload.upload_staged(pathlib.Path(out), repo, args.private)
  if args.json:
    sizes = {file.name: file.size for file in staged}
    print(json.dumps(dict(repo=repo, folder=out, files=sizes, uploaded=args.yes, commit=address)))
    return
  for file in staged:
    print(f"{file.size:>15,}  {file.name}")
  if args.yes:
    print(f"Uploaded to {repo}: {address}")
  else:
    print(f"Nothing was uploaded. Look at {out}/{staging.CARD}, then add --yes.")


def push_parser() -> argparse.ArgumentParser:
  """The options of `filax push`."""
  parser = options.Parser(
    prog="filax push",
    description=DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("folder", help="a run, one of its checkpoints, or a folder of `filax convert to`")
  add("--repo", required=True, metavar="ORG/NAME", help="the repository, made if it is missing")
  add("--yes", action="store_true", help="upload; without it nothing leaves this machine")
  add("--private", action="store_true", help="make a new repository private")
  add("--license", default="", help="the licence in the card, such as apache-2.0")
  add("--base-model", default="", metavar="ORG/NAME", help="the base model in the card")
  add("--results", action="append", default=[], metavar="DIR", help="an evaluation to report")
  add("--components", action="append", default=[], metavar="MODULE", help="a module to allow")
  checkpoint_options.add_base(parser)
  add("--out", help="folder in which the upload is prepared; default: FOLDER-hub")
  add("--json", action="store_true", help="print JSON")
  return parser
