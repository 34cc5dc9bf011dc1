# SPDX-License-Identifier: Apache-2.0
"""docs/plan.md shows docs/plan.json; every stage config was planned as it is, and fits."""

import importlib
import json
import pathlib
import subprocess

import pytest

from benchmarks import plan_entries, plan_grid, plan_page
from filax.train.memory_estimate import MARGIN

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PLANS = json.loads((DOCS / "plan.json").read_text())
CHOICES = json.loads((DOCS / "plan_choices.json").read_text())


def test_the_page_is_made_of_the_numbers():
  lines = plan_page.page(PLANS, CHOICES)
  assert (DOCS / "plan.md").read_text() == "\n".join(lines) + "\n"


def test_no_number_is_of_an_entry_that_is_gone():
  assert PLANS.keys() <= {entry.key for entry in plan_entries.entries()}


@pytest.mark.parametrize("entry", plan_entries.stage_entries(), ids=lambda entry: entry.key)
def test_a_stage_compiles_and_fits(entry):
  plan = PLANS[entry.key]
  assert plan["rows"] and all(row["fits"] for row in plan["rows"])
  module = importlib.import_module(f"filax.configs.{pathlib.Path(entry.config).stem}")
  config = module.get_config()
  largest = plan["rows"][-1]
  assert (largest["frames"], largest["images"], largest["positions"]) == config.data.rows[-1][:3]
  assert plan["batch"] == config.batch and plan["mesh"]["seq"] == config.mesh.seq
  assert config.optim.accumulate == config.model.llm.remat == config.model.encoder.remat == "auto"


def test_a_plan_that_is_killed_is_an_entry_with_an_error(monkeypatch):
  """So the other entries are still planned."""
  killed = subprocess.CompletedProcess((), -9, "", "")
  monkeypatch.setattr(plan_grid.subprocess, "run", lambda *_, **__: killed)
  plan = plan_grid.run_entry(plan_entries.LONG_CONTEXTS[0])
  assert plan == dict(error="ended with code -9")


def test_no_compiled_step_is_larger_than_its_estimate_with_the_margin():
  for key, plan in PLANS.items():
    for row in plan["rows"]:
      if "estimated_bytes" in row:
        assert row["estimated_bytes"] * (1 + MARGIN) > row["memory"]["total"], key


def test_the_choices_are_those_of_the_code():
  pytest.importorskip("libtpu")
  entry = plan_entries.stage_entries()[0]
  assert plan_grid.choice(entry) == CHOICES[0]


@pytest.mark.parametrize("entry", plan_entries.auto_entries(), ids=lambda entry: entry.key)
def test_a_compiled_choice_is_that_of_the_table_and_lowers_the_bound(entry):
  plan = PLANS[entry.key]
  stage = entry.name.removesuffix(", auto")
  (choice,) = [c for c in CHOICES if (c["config"], c["slice"]) == (stage, entry.topology)]
  assert plan["remat"] == dict(encoder=choice["encoder"], llm=choice["llm"])
  assert plan["micro_batches"] == choice["parts"] and plan["fits"]
  before = PLANS[f"{stage} {entry.topology}"]["rows"][-1]["step_seconds"]
  assert plan["rows"][-1]["step_seconds"] < before
