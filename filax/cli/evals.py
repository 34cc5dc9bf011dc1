# SPDX-License-Identifier: Apache-2.0
"""filax evals --checkpoint DIR --benchmark NAMES --data DIR: scores by published protocols.

Asks a checkpoint the questions of published benchmarks, or of a file of your own, and scores the
answers. The same command continues a run that was stopped.

  filax evals --list
      The benchmarks, their protocols, and where to get their files.
  filax evals --checkpoint runs/stage4 --benchmark videomme --data DIR --out runs/evals
      DIR holds the files of the benchmark.
  filax evals --checkpoint runs/stage4 --manifest questions.json --out runs/mine
      Questions of your own, in the format of the training data.

Exit code 0: the questions were asked and scored, apart from those that result.json counts as
skipped; 1: some answers wait for a judge, and the same command scores them; 2: an error.

Further commands, each with --help: `filax evals compare`, `report`, `niah` and `worker`.
"""

import argparse
from collections.abc import Mapping, Sequence
import importlib
import json
import os
from typing import Any

from filax.cli import checkpoint_options, options
from filax.cli.terminal import printable

COMMANDS = ("compare", "report", "niah", "worker")  # filax.cli.evals_<command>.main


def main(argv: Sequence[str]) -> int | None:
  """Prints a table, or one JSON object with --json."""
  if argv and argv[0] in COMMANDS:
    module = importlib.import_module(f"filax.cli.evals_{argv[0]}")
    return module.main(argv[1:])
  args = evals_parser().parse_args(argv)
  if args.list:
    print(benchmark_table())
    return None
  _check_names(args)
  from filax.evals.run import evaluate
  from filax.infer.device_mesh import ROWS

  session = checkpoint_options.load_on_devices(args, ROWS)
  session = session.adjusted(dropout=args.dropout, yarn=args.yarn)
  names = benchmark_names(args) or [args.manifest]
  reports = evaluate(
    session,
    names if len(names) > 1 else names[0],
    data=args.data,
    protocol=args.protocol,
    root=args.root,
    allow_missing=args.allow_missing,
    out=args.out,
    selector=args.selector,
    frames=args.frames,
    blind=args.blind,
    limit=args.limit,
    batch=args.batch,
    threads=args.threads,
    max_new_tokens=args.max_new_tokens,
    process=args.process,
    frame_cache=args.frame_cache,
  )
  by_name = reports if len(names) > 1 else {names[0]: reports}
  code = _exit_code(by_name)
  _print_reports(by_name, args.json)
  return code


def _exit_code(reports: Mapping[str, dict[str, Any]]) -> int:
  """1 if answers of a finished evaluation wait for a judge.

  Of several processes, only the one that ends last asks it.
  """
  waits = [report["pending"] for report in reports.values() if report["finished"]]
  return int(any(waits))


def _check_names(args: argparse.Namespace) -> None:
  """Raises ValueError unless the checkpoint and what to ask are named."""
  if not args.checkpoint:
    raise ValueError("Set --checkpoint to the folder of a run, or of one of its checkpoints.")
  if bool(args.benchmark) == bool(args.manifest):
    raise ValueError(
      "Set either --benchmark (--list shows the names) or --manifest to the questions."
    )
  from filax.evals.registry import find_benchmark

  for name in benchmark_names(args):
    find_benchmark(name)  # Before a checkpoint is loaded.


def benchmark_names(args: argparse.Namespace) -> list[str]:
  """The names of --benchmark."""
  names = [name.strip() for name in args.benchmark.split(",")]
  return [name for name in names if name]


def evals_parser() -> argparse.ArgumentParser:
  """The options of `filax evals`."""
  parser = options.Parser(
    prog="filax evals",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  checkpoint_options.add_checkpoint(parser, required=False)
  checkpoint_options.add_devices(parser)
  add = parser.add_argument
  add("--list", action="store_true", help="print the benchmarks and their protocols")
  _add_questions(parser)
  add("--selector", help="kmeans, uniform, ...; default: the checkpoint's config.infer.selector")
  add("--frames", type=options.whole_number(1), help="the most frames of a video")
  add("--yarn", type=options.number(1), help="extend the context by this factor")
  add("--dropout", default="", help="visual dropout: off, a preset, or layer:kind:ratio,...")
  add(
    "--blind", action="store_true", help="show grey pictures, to see what the text alone gives away"
  )
  add("--batch", type=options.whole_number(1), default=32, help="prompts answered at a time")
  add("--threads", type=options.whole_number(1), default=2, help="videos read at a time")
  add(
    "--frame-cache", default="", metavar="DIR", help="keep decoded frames for the next evaluation"
  )
  add(
    "--max-new-tokens",
    type=options.whole_number(1),
    help="the most tokens of an answer; default: as in the protocol",
  )
  add(
    "--process",
    type=process_share,
    default=_launched_share(),
    metavar="K/N",
    help="ask the K-th of N parts of the questions, from 0; each process gets the same --out",
  )
  add(
    "--out",
    default="",
    help="folder for result.json, answers.jsonl and page.html; the same command continues from it",
  )
  add("--json", action="store_true", help="print the result as JSON, without the answers")
  return parser


def _add_questions(parser: argparse.ArgumentParser) -> None:
  """The options that select the questions."""
  add = parser.add_argument
  add(
    "--benchmark",
    action=options.Single,
    default="",
    help="names of --list, separated by commas, or file.py:name or module:name of your own "
    "benchmark",
  )
  add(
    "--data",
    default="",
    help="folder with the files of the benchmark, or with a folder for each benchmark",
  )
  add(
    "--protocol",
    default="",
    help="vcf, lmms-eval or official; with --manifest filax, f1, captions or judge; default: "
    "depends on the model, or filax",
  )
  add(
    "--manifest",
    action=options.Single,
    default="",
    help="questions of your own, in the format of the training data",
  )
  add("--root", default="", help="folder of the media; default: the folder of the questions")
  add(
    "--allow-missing",
    action="store_true",
    help="skip questions whose media are missing, and count them",
  )
  add("--limit", type=options.whole_number(1), help="ask only this many questions")


def process_share(text: str) -> tuple[int, int]:
  """An argparse type: "1/4" is the second of four shares."""
  number, _, count = text.partition("/")
  if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
    raise argparse.ArgumentTypeError(
      f"{text!r} cannot be used. Set it to K/N with K from 0 to N-1."
    )
  return int(number), int(count)


def _launched_share() -> str | None:
  """The share of a process that launch/local.sh started."""
  number = os.environ.get("FILAX_PROCESS_ID")
  count = os.environ.get("FILAX_PROCESSES")
  return f"{number}/{count}" if number and count else None


def benchmark_table() -> str:
  """The benchmarks: questions, protocols, and where their files are."""
  from filax.evals.registry import MANIFEST, all_benchmarks

  benchmarks = all_benchmarks()
  del benchmarks[MANIFEST]
  width = max(map(len, benchmarks), default=0)
  lines = [f"{'':<{width}}  questions  protocols; files"]
  for name, benchmark in sorted(benchmarks.items()):
    count = "" if benchmark.questions is None else str(benchmark.questions)
    protocols = ", ".join(benchmark.protocols)
    lines.append(f"{name:<{width}}  {count:>9}  {protocols}; {benchmark.publisher}")
  return "\n".join(lines)


def _print_reports(reports: Mapping[str, dict[str, Any]], as_json: bool) -> None:
  if not as_json:
    tables = "\n\n".join(report_table(report) for report in reports.values())
    print(printable(tables))
    return
  for report in reports.values():
    del report["answers"]
  (single, *others) = reports.values()
  print(json.dumps(reports if others else single))


def report_table(report: Mapping[str, Any]) -> str:
  """The result in words."""
  rows = [("all", report)]
  for groups in report["by"].values():
    rows += [(name, row) for name, row in groups.items() if name]
  width = max(len(name) for name, _ in rows)
  blind = ", blind" if report["blind"] else ""
  lines = [f"{report['manifest']} with {report['selector']}{blind}"]
  lines.append(f"  {'':<{width}}  questions  accuracy")
  for name, row in rows:
    accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
    lines.append(f"  {name:<{width}}  {row['questions']:>9}  {accuracy:>8}")
  lines += _score_lines(report)
  lines.append(
    f"{report['videos']} videos, {len(report['bad_media'])} unreadable ({report['skipped']} "
    f"questions skipped), {len(report['bad_records'])} bad records, {report['unparsed']} answers "
    f"not understood, {report['pending']} wait for a judge, {report['degenerate']} degenerate, "
    f"{report['empty']} empty, "
    f"{report['seconds']['total']:.1f} s"
  )
  lines += report["bad_records"][:10]
  lines += list(report["bad_media"].values())[:10]
  lines += report["bad_questions"][:10]
  return "\n".join(lines)


def _score_lines(report: Mapping[str, Any]) -> list[str]:
  """The scores, and whether they are comparable with published ones."""
  version = f" ({report['protocol_version']})" if report["protocol_version"] else ""
  scores = ", ".join(f"{name} {score:.4f}" for name, score in report["scores"].items())
  lines = [f"{report['benchmark']} by protocol {report['protocol']}{version}: {scores}"]
  if report["note"]:
    lines.append(f"Note: {report['note']}")
  if report["comparable"]:
    lines.append("Comparable with numbers published under this protocol.")
  else:
    reasons = " ".join(report["reasons"])
    lines.append(f"Not comparable with published numbers: {reasons}")
  return lines
