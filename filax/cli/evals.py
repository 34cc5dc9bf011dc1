# SPDX-License-Identifier: Apache-2.0
"""filax evals --checkpoint DIR --manifest FILE: accuracy of a checkpoint, per kind of question."""

import argparse
from collections.abc import Mapping, Sequence
import json
from typing import Any

from filax.cli import checkpoint_options, evals_worker, options


def main(argv: Sequence[str]) -> None:
  """Prints a table, or one JSON object with --json; `worker` is a command of its own."""
  if argv[:1] == ["worker"]:
    evals_worker.main(argv[1:])
    return
  args = evals_parser().parse_args(argv)
  from filax.evals.run import evaluate
  from filax.infer.device_mesh import ROWS

  session = checkpoint_options.load_on_devices(args, ROWS)
  report = evaluate(
    session.adjusted(dropout=args.dropout),
    args.manifest,
    root=args.root,
    selector=args.selector,
    blind=args.blind,
    limit=args.limit,
    batch=args.batch,
    threads=args.threads,
    max_new_tokens=args.max_new_tokens,
    out=args.out,
  )
  if args.json:
    del report["answers"]
    print(json.dumps(report))
  else:
    print(report_table(report))


def evals_parser() -> argparse.ArgumentParser:
  """The options of `filax evals`."""
  parser = options.Parser(prog="filax evals", description=__doc__)
  checkpoint_options.add_checkpoint(parser)
  checkpoint_options.add_devices(parser)
  add = parser.add_argument
  add("--manifest", required=True, help="questions, in the format of the training data")
  add("--root", default="", help="folder of the media; default: the manifest's")
  add("--selector", help="kmeans, uniform, ...; default: the checkpoint's config.infer.selector")
  add("--dropout", default="", help="visual dropout: off, a preset, or layer:kind:ratio,...")
  add("--blind", action="store_true", help="show grey pictures: what words alone give away")
  add("--limit", type=options.whole_number(1), help="ask only so many questions")
  add("--batch", type=options.whole_number(1), default=32, help="prompts answered at a time")
  add("--threads", type=options.whole_number(1), default=2, help="videos read at a time")
  add("--max-new-tokens", type=options.whole_number(1), help="default: config.infer.max_new_tokens")
  add(
    "--out",
    default="",
    help="a file for the whole report with every answer, as JSON; it is written while answers come",
  )
  add("--json", action="store_true", help="print the report as JSON, without the answers")
  return parser


def report_table(report: Mapping[str, Any]) -> str:
  """The report in words."""
  rows = [("all", report)]
  for groups in report["by"].values():
    rows += [(name, row) for name, row in groups.items() if name]
  width = max(len(name) for name, _ in rows)
  blind = ", blind" if report["blind"] else ""
  lines = [f"{report['manifest']} with {report['selector']}{blind}"]
  lines.append(f"  {'':<{width}}  questions  accuracy")
  for name, row in rows:
    lines.append(f"  {name:<{width}}  {row['questions']:>9}  {row['accuracy']:>8.3f}")
  lines.append(
    f"{report['videos']} videos, {len(report['bad_media'])} unreadable ({report['skipped']} "
    f"questions skipped), {len(report['bad_records'])} bad records, {report['unparsed']} answers "
    f"not understood, {report['seconds']['total']:.1f} s"
  )
  lines += report["bad_records"][:10]
  lines += list(report["bad_media"].values())[:10]
  lines += report["bad_questions"][:10]
  return "\n".join(lines)
