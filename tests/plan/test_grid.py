# SPDX-License-Identifier: Apache-2.0
"""docs/plan.md shows docs/plan.json; every stage config was planned as it is, and fits."""

import importlib
import json
import pathlib

import pytest

from benchmarks import plan_grid

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PLANS = json.loads((DOCS / "plan.json").read_text())


def test_the_page_is_made_of_the_numbers():
  assert (DOCS / "plan.md").read_text() == "\n".join(plan_grid.page(PLANS)) + "\n"


def test_no_number_is_of_an_entry_that_is_gone():
  assert PLANS.keys() <= {entry.key for entry in plan_grid.entries()}


@pytest.mark.parametrize("entry", plan_grid.sections()["Stages"], ids=lambda entry: entry.key)
def test_a_stage_as_it_is_compiles_and_fits(entry):
  plan = PLANS[entry.key]
  assert plan["rows"] and all(row["fits"] for row in plan["rows"])
  module = importlib.import_module(f"configs.{pathlib.Path(entry.config).stem}")
  config = module.get_config()
  largest = plan["rows"][-1]
  assert (largest["frames"], largest["images"], largest["positions"]) == config.data.rows[-1][:3]
  assert plan["batch"] == config.batch and plan["mesh"]["seq"] == config.mesh.seq
  assert plan["micro_batches"] == (config.optim.accumulate or config.batch // plan["mesh"]["fsdp"])
  assert plan["remat"] == {role: config.model[role].remat for role in ("encoder", "llm")}
