# SPDX-License-Identifier: Apache-2.0
"""docs/plan.md is what docs/plan.json says; every stage config was planned as it is, and fits."""

import importlib
import json
import pathlib

import pytest

from benchmarks import plan_grid as grid

DOCS = pathlib.Path(__file__).parents[2] / "docs"
KNOWN = json.loads((DOCS / "plan.json").read_text())


def test_the_page_is_made_of_the_numbers():
  assert (DOCS / "plan.md").read_text() == "\n".join(grid.page(KNOWN)) + "\n"


def test_no_number_is_of_an_entry_that_is_gone():
  assert KNOWN.keys() <= {entry.key for entry in grid.entries()}


@pytest.mark.parametrize("entry", grid.sections()["Stages"], ids=lambda entry: entry.key)
def test_a_stage_as_it_is_compiles_and_fits(entry):
  found = KNOWN[entry.key]
  assert found["rows"] and all(row["fits"] for row in found["rows"])
  c = importlib.import_module(f"configs.{pathlib.Path(entry.config).stem}").get_config()
  largest = found["rows"][-1]
  assert (largest["frames"], largest["images"], largest["positions"]) == c.data.rows[-1][:3]
  assert found["batch"] == c.batch and found["mesh"]["seq"] == c.mesh.seq
  assert found["micro_batches"] == (c.optim.accumulate or c.batch // found["mesh"]["fsdp"])
  assert found["remat"] == {role: c.model[role].remat for role in ("encoder", "llm")}
