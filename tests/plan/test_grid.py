# SPDX-License-Identifier: Apache-2.0
"""docs/plan.md is what docs/plan.json says, and every stage config was planned and fits."""

import json
import pathlib

import pytest

from filax.plan import grid

DOCS = pathlib.Path(__file__).parents[2] / "docs"
KNOWN = json.loads((DOCS / "plan.json").read_text())


def test_the_page_is_made_of_the_numbers():
  assert (DOCS / "plan.md").read_text() == "\n".join(grid.page(KNOWN)) + "\n"


def test_no_number_is_of_an_entry_that_is_gone():
  assert KNOWN.keys() <= {entry.key for entry in grid.entries()}


@pytest.mark.parametrize("entry", grid.sections()["Stages"], ids=lambda entry: entry.key)
def test_a_stage_compiles_and_fits(entry):
  rows = KNOWN[entry.key]["rows"]
  assert rows and all(row["fits"] for row in rows)
  assert (DOCS.parent / entry.config).exists()
