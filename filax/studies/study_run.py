# SPDX-License-Identifier: Apache-2.0
"""Runs the units of a study, in order, beside other processes in the same folder.

A process takes the lease of a unit before it works. What another process holds is passed over; when
nothing else is left, the process waits for it. A unit that fails does not stop the others.
"""

from collections.abc import Callable, Collection, Sequence
import dataclasses
import fnmatch
import time

from ml_collections import ConfigDict

from filax import files
from filax.checkpoint.lease import Held, Lease
from filax.checkpoint.tree import flatten_tree
from filax.evals import registry
from filax.evals.questions import data_folder
from filax.models import components
from filax.parallel import distributed
from filax.studies.design import DATA
from filax.studies.study_time import StudyClock, time_text
from filax.studies.study_units import (
  CellUnit,
  DataUnit,
  LastSession,
  StudyPlace,
  StudyUnit,
  TrainUnit,
)
from filax.train import optim
from filax.train.run import check_selector

_LOOK_SECONDS = 1.0  # Between looks at what other processes have finished.

Say = Callable[[str], None]


@dataclasses.dataclass
class StudyUnits:
  """The units of a share of a study, in order."""

  cells: list[CellUnit]  # The cells of this process's share.
  before: list[StudyUnit]  # Data and runs that these cells need.

  def undone(self) -> list[StudyUnit]:
    """What is left: cells, and what they need."""
    cells = [cell for cell in self.cells if not cell.is_done()]
    needed: list[StudyUnit] = []
    for cell in cells:
      for unit in _all_needs(cell):
        if unit not in needed and not unit.is_done():
          needed.append(unit)
      needed.append(cell)
    return needed


def plan_units(
  place: StudyPlace,
  seeds: int,
  only: Sequence[str] = (),
  shard: tuple[int, int] = (0, 1),
) -> StudyUnits:
  """The units of a share of the cells.

  only: patterns of cell names, () = all. shard (k, n): the k-th of n shares, from 0; cells of one
  trained run and seed stay together. Raises ValueError for a pattern that no cell fits.
  """
  design = place.design
  for pattern in only:
    if not fnmatch.filter(design.cells, pattern):
      raise ValueError(f"No cell fits --only {pattern}. There are {', '.join(design.cells)}.")
  number, count = shard
  sessions = LastSession()
  data = [DataUnit(place)] if design.data["kind"] else []
  runs: dict[tuple[str, int], TrainUnit] = {}
  groups: dict[tuple[str, int], list[CellUnit]] = {}
  for seed in range(seeds):
    for cell in design.cells.values():
      if cell.checkpoint and seed:
        continue  # A checkpoint has no other seeds.
      before: Sequence[StudyUnit] = data
      if cell.run:
        before = [_train_unit(place, cell.run, seed, data, sessions, runs)]
      unit = CellUnit(place, cell, seed, sessions, before)
      groups.setdefault((cell.run or cell.checkpoint, seed), []).append(unit)
  cells = []
  for place_of_group, units in enumerate(groups.values()):
    if place_of_group % count == number:
      cells += [unit for unit in units if _is_wanted(unit.cell.name, only)]
  return StudyUnits(cells, [*data, *runs.values()])


def _train_unit(
  place: StudyPlace,
  run: str,
  seed: int,
  data: Sequence[StudyUnit],
  sessions: LastSession,
  runs: dict[tuple[str, int], TrainUnit],
) -> TrainUnit:
  """The unit of a run after those that it starts from."""
  before = data
  for part in place.design.chain(run):
    key = (part.name, seed)
    if key not in runs:
      runs[key] = TrainUnit(place, part, seed, sessions, before)
    before = [runs[key]]
  return runs[run, seed]


def _is_wanted(name: str, only: Sequence[str]) -> bool:
  return not only or any(fnmatch.fnmatch(name, pattern) for pattern in only)


def _all_needs(unit: StudyUnit) -> list[StudyUnit]:
  """Everything that comes before a unit, first things first."""
  needs: list[StudyUnit] = []
  for other in unit.needs:
    needs += _all_needs(other)
    needs.append(other)
  return needs


def run_units(place: StudyPlace, units: StudyUnits, say: Say) -> dict[str, str]:
  """Does what is undone; returns the failed units with their reasons.

  Raises StudyStopped after a signal.
  """
  if units.undone():
    check_study(place, units)
  clock = StudyClock(place, units.before, units.cells)
  folder = place.workdir / "locks"
  folder.mkdir(parents=True, exist_ok=True)
  files.remove_leftovers(folder)
  for cell in units.cells:
    if cell.is_outdated():
      say(f"{cell.name}: its file has another config than the study now; it is run anew")
  failed: dict[str, str] = {}
  waits = False
  while undone := [unit for unit in units.undone() if not _is_lost(unit, failed)]:
    if _do_one(place, undone, clock, failed, say):
      waits = False
      continue
    if not waits:
      waits = True
      say(f"waiting for another process, which works on {_first_names(undone)}")
    time.sleep(_LOOK_SECONDS)
  for cell in units.cells:
    if _is_lost(cell, failed) and not cell.is_done():
      failed.setdefault(cell.name, "what it needs has failed")
  return failed


def check_study(place: StudyPlace, units: StudyUnits) -> None:
  """Checks what can be checked before hours of training.

  Raises ValueError for several processes of one run, for invalid settings of a run, and for
  questions that are not there.
  """
  if not distributed.is_alone():
    raise ValueError(
      "A study runs in processes that know nothing of each other. Start it without the variables "
      "of launch/, with another --shard on every host."
    )
  for unit in units.before:
    if isinstance(unit, TrainUnit):
      check_run(unit.config())
  for questions in place.design.questions.values():
    if registry.is_benchmark(questions.manifest):
      registry.find_benchmark(questions.manifest)
      data_folder(place.filled(questions.data), questions.manifest)
    elif DATA not in questions.manifest:
      registry.check_manifest(questions.manifest)


def check_run(config: ConfigDict) -> None:
  """Raises ValueError if model, selector or rates do not fit."""
  model = components.build_video_lm(config.model)
  check_selector(config, model)
  paths = list(flatten_tree(components.parameter_shapes(model)))
  if not config.lora.ranks:
    optim.assign_rules(config.optim.rates, paths, "config.optim.rates")


def _do_one(
  place: StudyPlace,
  undone: Sequence[StudyUnit],
  clock: StudyClock,
  failed: dict[str, str],
  say: Say,
) -> bool:
  """Does the first unit that is free; False if there is none."""
  for unit in undone:
    if not all(need.is_done() for need in unit.needs):
      continue
    lock = Lease(place.workdir / "locks", report=say, file_name=f"{unit.name}.json")
    try:
      with lock:
        if not unit.is_done():  # Another process may just have finished it.
          _do(unit, undone, clock, failed, say)
    except Held:
      continue
    return True
  return False


def _do(
  unit: StudyUnit,
  undone: Sequence[StudyUnit],
  clock: StudyClock,
  failed: dict[str, str],
  say: Say,
) -> None:
  """Does a unit and says how it went; a failure is kept."""
  to_go = f"{len(undone)} to go"
  if seconds := clock.seconds_of(undone):
    to_go += f", about {time_text(seconds)}"
  say(f"{unit.name} ... ({to_go})")
  start = time.perf_counter()
  try:
    outcome = unit.work()
  except (ValueError, OSError, RuntimeError) as error:  # The last one from the device.
    failed[unit.name] = str(error)
    say(f"{unit.name} failed: {error}")
    return
  seconds = time.perf_counter() - start
  clock.note(unit, seconds)
  say(f"{unit.name}: {outcome}; {time_text(seconds)}")


def _is_lost(unit: StudyUnit, failed: Collection[str]) -> bool:
  """Whether a unit, or one that it needs, has failed."""
  return unit.name in failed or any(need.name in failed for need in _all_needs(unit))


def _first_names(units: Sequence[StudyUnit]) -> str:
  names = [unit.name for unit in units[:3]]
  return ", ".join(names) + (" and others" if len(units) > 3 else "")
