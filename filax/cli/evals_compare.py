# SPDX-License-Identifier: Apache-2.0
"""filax evals compare FIRST SECOND...: what changed from one evaluation to others.

  filax evals compare runs/a/mvbench runs/b/mvbench
      The difference of the main score on the questions that both answered, with its 95 % interval
      (paired bootstrap), McNemar's exact test, the columns, and how many verdicts flipped.
  filax evals compare runs/a/mvbench runs/b/mvbench --out diff
      Also diff/compare.html, which lists every flipped question with both answers, and
      diff/compare.json.

Each run is a folder that `filax evals --out` wrote, or its result.json. Further runs are compared
with the first one. Runs of different benchmarks are refused; other protocols, annotation files and
question sets are named in a note.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
import os
from typing import Any

from filax import settings
from filax.cli import options
from filax.cli.terminal import printable

MOST_GROUPS = 12  # The most groups of a column that are printed.


def main(argv: Sequence[str]) -> None:
  """Prints the comparisons, or JSON with --json; writes the page with --out."""
  args = compare_parser().parse_args(argv)
  from filax.evals.compare import Bootstrap, compare_runs
  from filax.evals.compare_page import NUMBERS, PAGE, write_comparison
  from filax.evals.results import read_results

  runs = list(map(read_results, args.runs))
  bootstrap = Bootstrap(args.units, args.resamples, args.seed)
  comparisons = compare_runs(runs, bootstrap)
  if args.out:
    write_comparison(args.out, comparisons)
  if args.json:
    print(json.dumps(comparisons))
    return
  for comparison in comparisons:
    print(printable(comparison_text(comparison)))
  if args.out:
    page = os.path.join(args.out, PAGE)
    print(f"{page}, {os.path.join(args.out, NUMBERS)}")


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
  add(
    "--seed",
    type=options.whole_number(0, settings.LARGEST_SEED),
    default=0,
    help="of the bootstrap; default: 0",
  )
  add("--json", action="store_true", help="print the comparisons as JSON")
  return parser


def comparison_text(comparison: Mapping[str, Any]) -> str:
  """A comparison in words."""
  from filax.evals.compare_page import interval_text, p_text
  from filax.evals.html_page import points, setting_text, signed_points

  test = comparison["mcnemar"]
  drawn = "media" if comparison["units"] == "media" else "single questions"
  lines = [f"{comparison['benchmark']}, {comparison['paired']:,} common questions"]
  for name in ("first", "second"):
    run = comparison[name]
    score = points(comparison[f"{name}_score"])
    lines.append(f"  {name:<10}  {score}  {run['folder']} ({run['checkpoint']})")
  lines.append(
    f"  difference  {signed_points(comparison['difference'])} points of {comparison['metric']}, "
    f"95 % {interval_text(comparison['interval'])} (bootstrap of {drawn})"
  )
  lines.append(
    f"  flipped     {test['gained']} wrong → right, {test['lost']} right → wrong; McNemar's exact "
    f"test: p {p_text(test['p'])}"
  )
  for column, groups in comparison["by"].items():
    words = [f"{name} {signed_points(group['difference'])}" for name, group in groups.items()]
    rest = len(words) - MOST_GROUPS
    if rest > 0:
      words[MOST_GROUPS:] = [f"and {rest} more"]
    lines.append(f"  by {column}: {', '.join(words)}")
  for name, values in comparison["settings"].items():
    before, after = map(setting_text, values)
    lines.append(f"  {name}: {before or 'none'} → {after or 'none'}")
  for sentence in comparison["warnings"]:
    lines.append(f"  note: {sentence}")
  return "\n".join(lines)
