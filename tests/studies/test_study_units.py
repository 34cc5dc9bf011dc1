# SPDX-License-Identifier: Apache-2.0
"""The order of work of a study: shards, leases between processes, failures, estimates."""

import json
import subprocess
import threading
import types

import pytest

from filax.checkpoint.lease import Lease
from filax.studies import study_run
from filax.studies.cell_files import CellFolder
from filax.studies.design import read_design
from filax.studies.study_run import StudyUnits, plan_units, run_units
from filax.studies.study_time import time_text
from filax.studies.study_units import StudyPlace, source_commit


def config():
  """Three cells of run "a" after run "first", one of run "b"."""
  runs = [("first", ""), ("a", "first"), ("b", "first")]
  return dict(
    name="units",
    title="Units",
    paper="",
    note="",
    data=dict(kind=""),
    runs=tuple((name, dict(config=dict(seed=0), after=after, seconds=9)) for name, after in runs),
    cells=tuple((f"{run}{n}", dict(run=run)) for run, n in zip("aaab", "1231", strict=True)),
    questions=(("q", dict(manifest="q.json")),),
    columns=(("all", dict(questions="q")),),
    contrasts=(),
    published=(),
    axis="",
    lines=(),
  )


class FakeCell:
  """A cell without a model."""

  def __init__(self, name, needs=(), error=""):
    self.name = name
    self.cell = types.SimpleNamespace(name=name)
    self.seed = 0
    self.guess = 4.0
    self.needs = needs
    self.error = error
    self.calls = 0
    self.done = False

  def is_done(self):
    return self.done

  def is_outdated(self):
    return False

  def work(self):
    self.calls += 1
    if self.error:
      raise ValueError(self.error)
    self.done = True
    return "asked"


@pytest.fixture
def place(tmp_path, monkeypatch):
  monkeypatch.setattr(study_run, "check_study", lambda place, units: None)
  monkeypatch.setattr(study_run, "_LOOK_SECONDS", 0.01)
  return StudyPlace(read_design(config()), tmp_path, CellFolder(tmp_path / "cells"))


def test_runs_come_before_cells_and_are_shared(place):
  names = [unit.name for unit in plan_units(place, 1).undone()]
  assert names == [
    *("train:first.seed0", "train:a.seed0", "a1.seed0", "a2.seed0", "a3.seed0"),
    *("train:b.seed0", "b1.seed0"),
  ]


def test_components_of_a_study_are_allowed_when_its_runs_are_loaded(tmp_path):
  """A checkpoint may only name components that somebody has allowed."""
  settings = config()
  model = dict(merger=dict(name="my_lab.gated:Gated"), llm=dict(name="qwen2"))
  settings["runs"] = (("a", dict(config=dict(seed=0, model=model))),)
  settings["cells"] = (("a1", dict(run="a")),)
  place = StudyPlace(read_design(settings), tmp_path, CellFolder(tmp_path / "cells"))
  assert place.components == ["my_lab.gated"]


@pytest.mark.parametrize("count", [2, 3])
def test_shards_divide_the_cells_and_keep_a_run_together(place, count):
  everything = [cell.name for cell in plan_units(place, 3).cells]
  shards = []
  for number in range(count):
    cells = plan_units(place, 3, shard=(number, count)).cells
    shards.append({(cell.cell.run, cell.seed) for cell in cells})
    everything = [name for name in everything if name not in {cell.name for cell in cells}]
  assert not everything
  assert sum(map(len, shards)) == len(set.union(*shards)) == 6


def test_a_unit_that_another_process_holds_is_done_later(place):
  first = FakeCell("first.seed0")
  second = FakeCell("second.seed0")
  said = []
  with Lease(place.workdir / "locks", file_name="first.seed0.json", report=said.append):
    units = StudyUnits([first, second], [])
    thread = threading.Thread(target=run_units, args=(place, units, said.append))
    thread.start()
    for _ in range(500):
      if any("waiting" in line for line in said):
        break
      thread.join(0.01)
    assert (first.calls, second.calls) == (0, 1)
  thread.join(20)
  assert (first.calls, second.calls) == (1, 1)


def test_a_failure_stops_only_what_needs_it(place):
  bad = FakeCell("bad.seed0", error="There is no medium.")
  after = FakeCell("after.seed0", needs=[bad])
  other = FakeCell("other.seed0")
  failed = run_units(place, StudyUnits([bad, after, other], []), lambda text: None)
  assert failed == {
    "bad.seed0": "There is no medium.",
    "after.seed0": "what it needs has failed",
  }
  assert (bad.calls, after.calls, other.calls) == (1, 0, 1)


def test_the_first_estimate_is_the_guess(place):
  said = []
  run_units(place, StudyUnits([FakeCell("x.seed0"), FakeCell("y.seed0")], []), said.append)
  assert said[0] == "x.seed0 ... (2 to go, about 8 s)"


def test_a_cell_names_the_commits_that_trained_it(place):
  """A workdir may hold runs that were trained before the code has changed."""
  cell = plan_units(place, 1).cells[0]
  for run, commit in (("first", "older"), ("a", place.commit)):
    folder = place.run_folder(run, 0)
    folder.mkdir(parents=True)
    facts = dict(seconds=1.0, commit=commit)
    (folder / "study_done.json").write_text(json.dumps(facts))
  assert cell.commits() == f"{place.commit}, older"
  (folder / "study_done.json").write_text('{"seconds": 1.0}')  # Of a FiLax before.
  assert cell.commits() == f"{place.commit}, older"


def test_a_commit_is_that_of_the_code_not_of_a_checkout_around_it(tmp_path):
  """An environment often lies in the checkout of another project."""
  ours, theirs = tmp_path / "ours.py", tmp_path / ".venv/theirs.py"
  theirs.parent.mkdir()
  for path in (ours, theirs):
    path.write_text("")
  git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
  for words in (["init", "-q"], ["add", "ours.py"], ["commit", "-qm", "First"]):
    subprocess.run([*git, *words], check=True)
  assert len(source_commit(str(ours))) == 12
  assert source_commit(str(theirs)) == ""
  ours.write_text("changed")
  assert source_commit(str(ours)).endswith("+")


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "42 s"), (400, "7 min"), (7500, "2 h 5 min")])
def test_times_in_words(seconds, text):
  assert time_text(seconds) == text
