# SPDX-License-Identifier: Apache-2.0
"""filax evals compare FIRST SECOND...: what changed from one evaluation to others.

  filax evals compare runs/a/mvbench runs/b/mvbench
      The difference of the main score on the questions that both answered, with its 95 % interval
      (paired bootstrap), McNemar's exact test, the columns, and how many verdicts flipped.
  filax evals compare runs/a/mvbench runs/b/mvbench --out diff
      Also diff/compare.html, which lists every flipped question with both answers, and
      diff/compare.json.

Each run is a folder that `filax evals --out` wrote, or its result.json. Further runs are compared
with the first one. Runs of different benchmarks are refused; different protocols, annotation files
and question sets are said.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
from typing import Any

from filax.cli import options

MOST_GROUPS = 12  # Of a column in the printed text.


def main(argv: Sequence[str]) -> None:
  """Prints the comparison, or JSON with --json; writes the page with --out."""
  args = compare_parser().parse_args(argv)
  from filax.evals.compare import compare_runs
  from filax.evals.compare_page import write_comparison
  from filax.evals.results import read_results

  runs = list(map(read_results, args.runs))
  comparisons = compare_runs(runs, units=args.units, resamples=args.resamples, seed=args.seed)
  if args.out:
    write_comparison(args.out, comparisons)
  if args.json:
    print(json.dumps(comparisons))
    return
  for comparison in comparisons:
    print(comparison_text(comparison))
  if args.out:
    print(f"{args.out}/compare.html, {args.out}/compare.json")


def compare_parser() -> argparse.ArgumentParser:
  """The options of `filax evals compare`."""
  parser = options.Parser(
    prog="filax evals compare",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("runs", nargs="+", metavar="RUN", help="two or more evaluations of one benchmark")
  add("--out", default="", help="a folder for compare.html and compare.json")
  add(
    "--units",
    choices=("media", "question"),
    default="media",
    help="what the bootstrap draws: media with all their questions (default), or single questions",
  )
  add("--resamples", type=options.whole_number(100), default=10_000, help="default: 10000")
  add("--seed", type=options.whole_number(0), default=0, help="of the bootstrap; default: 0")
  add("--json", action="store_true", help="print the comparisons as JSON")
  return parser


def comparison_text(comparison: Mapping[str, Any]) -> str:
  """A comparison in words."""
  from filax.evals.compare_page import interval_text, p_text
  from filax.evals.html_page import points, signed_points

  first = comparison["first"]
  second = comparison["second"]
  test = comparison["mcnemar"]
  lines = [
    f"{comparison['benchmark']}, {comparison['paired']:,} questions that both answered",
    f"  first       {points(comparison['first_score'])}  {first['folder']} ({first['checkpoint']})",
    f"  second      {points(comparison['second_score'])}  {second['folder']} ({second['checkpoint']})",
    f"  difference  {signed_points(comparison['difference'])} points of {comparison['metric']}, 95 % "
    f"{interval_text(comparison['interval'])} ({_drawn(comparison)})",
    f"  flipped     {test['gained']} wrong → right, {test['lost']} right → wrong; McNemar's exact "
    f"test {p_text(test['p'])}",
  ]
  for column, groups in comparison["by"].items():
    words = [f"{name} {signed_points(row['difference'])}" for name, row in groups.items()]
    if words:
      rest = len(words) - MOST_GROUPS
      more = f", and {rest} more" if rest > 0 else ""
      lines.append(f"  by {column}: {', '.join(words[:MOST_GROUPS])}{more}")
  for name, (before, after) in comparison["settings"].items():
    lines.append(f"  {name}: {before} → {after}")
  for sentence in comparison["warnings"]:
    lines.append(f"  note: {sentence}")
  return "\n".join(lines)


def _drawn(comparison: Mapping[str, Any]) -> str:
  """What the bootstrap drew."""
  if comparison["units"] == "media":
    return f"bootstrap over {comparison['media']:,} media"
  return "bootstrap over questions"
