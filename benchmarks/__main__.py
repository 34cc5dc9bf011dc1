# SPDX-License-Identifier: Apache-2.0
"""Measures FiLax beside other software for the same work.

  python -m benchmarks                # Short shapes, about 15 minutes on two cores.
  python -m benchmarks --full         # All shapes, up to two hours; continues where it ended.
  python -m benchmarks --rows decode,prefill --peers no
  python -m benchmarks --list

Writes results.json, results.md and plots to the folder --out, and a small file for each finished
row and shape, which is not run again. Every side runs in a process of its own with its best number
of threads; sides alternate, and the median counts. benchmarks/README.md describes the method, and
benchmarks/gpu.sh measures a GPU.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import sys
import time
from typing import Any

from benchmarks import harness, machine, plots, table
from benchmarks.row import BenchmarkRow, Shape, all_rows, case_name, chosen_rows, shape_text
from benchmarks.summary import summarise_case
from filax import files


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the rows that are not finished yet, and writes the results."""
  args = parse_arguments(argv)
  if args.list:
    print("\n".join(row_lines(list(all_rows().values()))))
    return
  rows = chosen_rows([name for name in args.rows.split(",") if name])
  description = machine.describe_machine()
  folder = pathlib.Path(args.out or f"runs/benchmarks/{description['commit'].rstrip('+')}")
  (folder / "cases").mkdir(parents=True, exist_ok=True)
  work = [(row, shape) for row in rows for shape in row.shapes_of_run(args.full)]
  start = time.monotonic()
  for number, (row, shape) in enumerate(work):
    elapsed = (time.monotonic() - start) / 60
    label = f"[{number + 1}/{len(work)}, {elapsed:.1f} min] {row.name} {shape_text(shape)}"
    finish_case(row, shape, folder, args, description, label)
  write_results(folder, description)
  print(f"Wrote {folder / 'results.md'}.")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  """The settings of a run."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--full", action="store_true", help="also long shapes; median of 3")
  parser.add_argument("--rows", default="", help="names, or their beginnings, with commas")
  parser.add_argument("--list", action="store_true", help="print the rows and end")
  parser.add_argument("--out", default="", help="default: runs/benchmarks/<commit>")
  parser.add_argument("--peers", choices=("yes", "no"), default="yes")
  parser.add_argument("--repeats", type=int, default=0, help="default: 5, with --full 3")
  parser.add_argument("--again", action="store_true", help="run finished rows again")
  return parser.parse_args(argv)


def row_lines(rows: Sequence[BenchmarkRow]) -> list[str]:
  """A line for every row: name, work, sides, and what is missing."""
  lines = []
  for row in rows:
    sides = []
    for side in row.sides:
      missing = side.missing()
      hint = f" (pip install {' '.join(missing)})" if missing else ""
      sides.append(f"{side.name}{hint}")
    lines.append(f"{row.name:22} {row.what}: {', '.join(sides)}")
    for shape in row.shapes:
      lines.append(f"{'':24}{shape_text(shape)}")
    for shape in row.full:
      lines.append(f"{'':24}{shape_text(shape)}  (--full)")
  return lines


def finish_case(
  row: BenchmarkRow,
  shape: Shape,
  folder: pathlib.Path,
  args: argparse.Namespace,
  description: dict[str, Any],
  label: str,
) -> None:
  """Runs a case and writes its file, unless that exists."""
  path = folder / "cases" / f"{case_name(row, shape)}.json"
  before = finished_commit(path)
  if before and not args.again:
    print(f"{label}: finished before, at commit {before}", flush=True)
    return
  sides, skipped = harness.sides_that_run(row, args.peers == "yes")
  for name, reason in skipped.items():
    print(f"{label}: {name} skipped, {reason}", file=sys.stderr, flush=True)
  repeats = args.repeats or row.repeats or (3 if args.full else 5)
  budget = float("inf") if args.full or args.repeats else 60.0
  case = dict(
    row=row.name,
    what=row.what,
    unit=row.unit,
    axis=row.axis,
    shape=dict(shape),
    commit=description["commit"],
    packages=description["packages"],
    skipped=skipped,
  )
  case |= harness.run_case(row, shape, sides, repeats, budget, folder / "logs")
  with files.write_atomically(path) as file:
    file.write(json.dumps(case, indent=1).encode() + b"\n")
  print(f"{label}: {case_line(case)}", flush=True)


def finished_commit(path: pathlib.Path) -> str:
  """The commit at which a case was measured; "" if nothing was."""
  if not path.exists():
    return ""
  case = json.loads(path.read_bytes())
  is_measured = any(record["samples"] for record in case["sides"].values())
  return case["commit"] if is_measured else ""


def case_line(case: dict[str, Any]) -> str:
  """The medians of a case in a line."""
  summary = summarise_case(case)
  words = []
  for name, side in summary["sides"].items():
    text = side["error"] if "rate" not in side else table.rate_text(side, case["unit"])
    words.append(f"{name} {text}")
  if "ratio" in summary:
    words.append(f"ratio {summary['ratio']:.2f}")
  return ", ".join(words)


def write_results(folder: pathlib.Path, description: dict[str, Any]) -> None:
  """Writes results.json, results.md and the plots of all finished cases."""
  cases = []
  for row in all_rows().values():
    for shape in row.shapes_of_run(full=True):
      path = folder / "cases" / f"{case_name(row, shape)}.json"
      if path.exists():
        cases.append(json.loads(path.read_text()))
  results = dict(machine=description, cases=cases)
  (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
  page = table.results_page(description, cases)
  drawn = plots.draw_growth(cases, folder)
  if drawn:
    pictures = "\n".join(f"![{path.stem}]({path.name})" for path in drawn)
    page += f"\n## Growth\n\n{pictures}\n"
  (folder / "results.md").write_text(page)


if __name__ == "__main__":
  main()
