# SPDX-License-Identifier: Apache-2.0
"""filax evals report RUN... --out report.html: runs and benchmarks on one page.

  filax evals report runs/a runs/b --out report.html
      Every evaluation at or below the folders: a table of runs and benchmarks beside published
      scores, accuracy by kind and length, sample answers, and answers that were not understood.
      The page needs no other file and no network.
  filax evals report runs --out table.tex
      The scores as tables for LaTeX (booktabs), in Markdown (.md), or a line each (.csv).

Each published score is shown with its source and protocol. If no run followed that protocol, the
score is marked, because it cannot be compared with the runs.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
import os
from typing import Any

from filax.cli import options
from filax.cli.terminal import printable


def main(argv: Sequence[str]) -> None:
  """Writes the page; prints a table, or JSON with --json."""
  args = report_parser().parse_args(argv)
  if os.path.isdir(args.out):
    raise ValueError(f"--out {args.out} is a folder. Name the page, such as report.html.")
  from filax.evals.report import build_report, gather_runs
  from filax.evals.report_files import is_table_file, write_tables
  from filax.evals.report_page import write_report_page

  gathered = gather_runs(args.runs)
  if args.out and not is_table_file(args.out):
    report = write_report_page(args.out, gathered)
  else:
    report = build_report(gathered)
  if is_table_file(args.out):
    write_tables(args.out, report)
  if args.json:
    print(json.dumps(report))
    return
  print(printable(report_text(report)))
  if args.out:
    print(args.out)


def report_parser() -> argparse.ArgumentParser:
  """The options of `filax evals report`."""
  parser = options.Parser(
    prog="filax evals report",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("runs", nargs="+", metavar="RUN", help="folders of evaluations, or folders that hold them")
  add("--out", default="", help="the page report.html, or tables: .csv, .md or .tex; default: none")
  add("--json", action="store_true", help="print all numbers as JSON")
  return parser


def report_text(report: Mapping[str, Any]) -> str:
  """A line for each run on each benchmark."""
  from filax.evals.html_page import points

  width = max(map(len, report["runs"]))
  lines = []
  for name, numbers in report["benchmarks"].items():
    lines.append(name)
    for run in numbers["runs"]:
      mark = "comparable" if run["comparable"] else "not comparable"
      lines.append(
        f"  {run['run']:<{width}}  {points(run['score']):>6}  {run['metric']}, "
        f"{run['questions']:,} of {run['total']:,} questions, protocol "
        f"{run['protocol'] or 'none'}, {mark}"
      )
  lines += report["unreadable"]
  return "\n".join(lines)
