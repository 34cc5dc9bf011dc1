# SPDX-License-Identifier: Apache-2.0
"""filax study F --workdir D [--seeds 3] [--only CELLS] [--shard I/N]

A study tests the claims of a paper's table, such as that one method scores above another one. This
command trains and asks the cells (rows) of the table, and says for every claim whether it holds.

  filax study --list
      The studies that come with FiLax, with the paper's tables they repeat.
  filax study fila_table2 --list
      The cells of a study, what they are trained from, and the claims.
  filax study fila_table2 --workdir runs/studies --dry-run
      What is left to do, and how long it takes by estimate.
  filax study fila_table2 --workdir runs/studies
      Does it. The same command continues after a kill, and writes the report again.
  filax study fila_table2:7b --workdir runs/table2
      The same study of the 7B, on the benchmarks of the paper, with your data.

F is a config of configs/studies/, or a file of your own with get_config(arg), with its arguments
after a colon. Training is that of `filax train`, asking that of `filax evals`. Runs that several
cells have in common are trained once.

  The report            D/reports/STUDY: report.html, report.md, report.json and figure.png.
                        --report writes it from the finished cells, and runs nothing.
  A finished cell       is one JSON file: scores, results of single questions, seed, hash of its
                        config, commit. It is run again only if its config has changed since. For
                        studies of configs/studies/ the files are in docs/evidence/cells/STUDY of
                        the checkout, so that they can be committed; for others in D/cells. --cells
                        names another folder, such as an empty one to run a study again.
  Several processes     may work in one D: each takes cells that no other process works on.
  Several machines      without a common folder: --shard 0/4 … 3/4 divides the cells. Copy their
                        files into one folder afterwards, and call the command with --report.

Exit code 1: some cells failed (they are listed), the others are finished.
"""

import argparse
from collections.abc import Mapping, Sequence
import importlib.util
import pathlib
import sys
from typing import Any

from ml_collections import ConfigDict

from filax import shipped_configs
from filax.cli import options
from filax.cli.evals import process_share
from filax.cli.study_lines import cell_lines, dry_run_lines, shipped_lines
from filax.studies.cell_files import CellFolder
from filax.studies.design import StudyDesign, read_design

STUDIES = shipped_configs.FOLDER / "studies"
_NOT_STUDIES = ("__init__", "common", "small", "large")


def main(argv: Sequence[str]) -> int:
  """argv without the verb -> exit code."""
  args = study_parser().parse_args(list(argv))
  if not args.study:
    if not args.list:
      raise ValueError("Name a study, such as fila_table2, or see them all with --list.")
    print("\n".join(shipped_lines(shipped_designs())))
    return 0
  path, argument = study_file(args.study)
  design = load_design(path, argument)
  if args.list:
    print("\n".join(cell_lines(design)))
    return 0
  if not args.workdir:
    raise ValueError("Set --workdir to a folder for the study's runs and its report.")
  cells = CellFolder(cells_folder(args, path, design))
  return _run(args, design, cells)


def study_parser() -> argparse.ArgumentParser:
  """The options of `filax study`."""
  parser = options.Parser(
    prog="filax study",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("study", nargs="?", default="", metavar="F", help="a study, with :arguments")
  add("--workdir", default="", metavar="D", help="folder for data, runs, answers and the report")
  add("--seeds", type=options.whole_number(1), default=3, help="training seeds: 0, 1, … [3]")
  add(
    "--only",
    default="",
    metavar="CELLS",
    help="names of cells, separated by commas; * matches any text",
  )
  add(
    "--shard",
    type=process_share,
    default=(0, 1),
    metavar="I/N",
    help="the I-th of N parts of the cells, from 0; a trained run stays in one part",
  )
  add("--cells", default="", metavar="DIR", help="folder of finished cells")
  add("--list", action="store_true", help="print the studies, or the cells of F")
  add("--dry-run", action="store_true", help="print what remains to be done, and how long it takes")
  add("--report", action="store_true", help="write the report of the finished cells; run nothing")
  return parser


def _run(args: argparse.Namespace, design: StudyDesign, cells: CellFolder) -> int:
  """Runs what is left and writes the report."""
  from filax.studies import study_run, study_time
  from filax.studies.study_units import StudyPlace, StudyStopped

  place = StudyPlace(design, pathlib.Path(args.workdir).absolute(), cells)
  only = [name.strip() for name in args.only.split(",") if name.strip()]
  units = study_run.plan_units(place, args.seeds, only, args.shard)
  if args.dry_run:
    clock = study_time.StudyClock(place, units.before, units.cells)
    print("\n".join(dry_run_lines(units, clock)))
    return 0
  failed: Mapping[str, str] = {}
  if not args.report:
    try:
      failed = study_run.run_units(place, units, _say)
    except StudyStopped:
      _say("Stopped. The same command goes on from here.")
      return 0
  _write_report(place, args.seeds)
  for name, reason in failed.items():
    print(f"failed: {name}: {reason}", file=sys.stderr)
  return 1 if failed else 0


def _write_report(place, seeds: int) -> None:
  """Writes the report and prints its tables."""
  from filax.studies import study_report, study_run
  from filax.studies.study_table import study_numbers

  everything = study_run.plan_units(place, seeds)
  hashes = {(unit.cell.name, unit.seed): unit.hash for unit in everything.cells}
  numbers = study_numbers(place.design, place.cells, hashes, seeds)
  folder = place.workdir / "reports" / place.design.name
  study_report.write_report(numbers, folder)
  print(study_report.markdown(numbers))
  _say(f"{study_report.counts_line(numbers)}. Open {folder / 'report.html'}.")


def study_file(text: str) -> tuple[pathlib.Path, str]:
  """(file, argument) of "F:arg": a path, or a name of configs/studies/.

  Raises ValueError if there is neither.
  """
  name, _, argument = text.partition(":")
  path = pathlib.Path(name)
  if path.is_file():
    return path, argument
  shipped = STUDIES / path.with_suffix(".py").name
  if str(path.parent) in (".", "studies", "configs/studies") and shipped.is_file():
    return shipped, argument
  raise ValueError(f"There is no study {name}. `filax study --list` names those of FiLax.")


def load_design(path: pathlib.Path, argument: str) -> StudyDesign:
  """The design of a study's file. Raises ValueError in one sentence."""
  shipped_configs.make_importable()
  spec = importlib.util.spec_from_file_location(f"filax_study_{path.stem}", path)
  if spec is None or spec.loader is None:
    raise ValueError(f"{path} is not a Python file.")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except SyntaxError as error:
    raise ValueError(f"The study is not Python: {error}.") from error
  if not hasattr(module, "get_config"):
    raise ValueError(f"{path} has no get_config(arg), so it is not a study.")
  config: Any = module.get_config(argument or None)
  if not isinstance(config, ConfigDict) or "cells" not in config:
    raise ValueError(
      f"{path} is not a study: its get_config returns no config of configs/studies/common.py. "
      "`filax train --config` trains a config."
    )
  return read_design(config.to_dict())


def shipped_designs() -> list[StudyDesign]:
  """The studies of configs/studies/."""
  designs = []
  for path in sorted(STUDIES.glob("*.py")):
    if path.stem not in _NOT_STUDIES:
      designs.append(load_design(path, ""))
  return designs


def cells_folder(args: argparse.Namespace, path: pathlib.Path, design: StudyDesign) -> pathlib.Path:
  """Where finished cells lie.

  Those of a study of the checkout are in its docs, where they can be committed.
  """
  if args.cells:
    return pathlib.Path(args.cells)
  root = STUDIES.resolve().parents[1]
  if path.resolve().parent == STUDIES.resolve() and (root / "docs").is_dir():
    return root / "docs" / "evidence" / "cells" / design.name
  return pathlib.Path(args.workdir) / "cells" / design.name


def _say(text: str) -> None:
  print(f"[study] {text}", flush=True)
