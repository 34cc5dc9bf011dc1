# SPDX-License-Identifier: Apache-2.0
"""The pages that are made from configs, plans, parsers and docstrings."""

import importlib
import json

import pytest

from docs.generators import api_pages, command_pages, docstrings, settings_page, stage_cards
from filax import settings
from filax.cli.main import VERBS
from filax.configs import common

PLANS = json.loads((stage_cards.DOCS / "plan.json").read_text())
CHOICES = json.loads((stage_cards.DOCS / "plan_choices.json").read_text())


@pytest.fixture(scope="module")
def stage4():
  return "\n".join(stage_cards.card_lines("fila_stage4", PLANS, CHOICES))


@pytest.mark.parametrize(
  "fact",
  [
    "# FiLA-Video stage 4",
    "8,032,865,952 parameters",
    "| merger | `weighted`: 2,519,424 parameters, rate 2e-06 |",
    "| frames of a video | 96, uniform |",
    "| samples a step | 128 |",
    "| v5p:4x4x4 | 64 | 10.9 of 95.7 | 5.40 |",
    "filax train --config configs/fila_stage4.py:debug",
  ],
)
def test_a_recipe_card_states(fact, stage4):
  assert fact in stage4, stage4


@pytest.mark.parametrize("stage", stage_cards.STAGES)
def test_the_index_has_every_stage(stage):
  assert any(line.startswith(f"| [{stage}]") for line in stage_cards.index_lines())


def test_chip_hours_follow_from_steps():
  plan = dict(
    topology="v5p:2x2x1",
    chips=4,
    usable_bytes=2.0**34,
    rows=[dict(step_seconds=9.0, memory=dict(total=2.0**33))],
  )
  assert stage_cards.plan_row(plan, steps=1000) == "| v5p:2x2x1 | 4 | 8.0 of 16.0 | 9.00 | 10 |"


def test_samples_of_a_part_follow_its_strategy():
  part = importlib.import_module("filax.configs.mixtures.vcf_stage1").PARTS[0]
  part = part._replace(samples="10k", strategy="first:10%")
  assert stage_cards.sample_count(part) == 1000


def test_unknown_samples_are_told():
  part = importlib.import_module("filax.configs.mixtures.vcf_stage1").PARTS[0]
  parts = [part._replace(samples="10", strategy="all"), part._replace(samples="unknown")]
  assert stage_cards.count_text(parts) == "at least 10"


@pytest.fixture(scope="module")
def commands():
  return "\n".join(command_pages.command_lines())


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_its_help(verb, commands):
  assert f"## filax {verb}\n" in commands
  assert f"filax {verb}" in commands.partition(f"## filax {verb}\n")[2]


def test_commands_below_a_verb_have_their_help(commands):
  for name in ("evals niah", "data longvid", "convert from", "analyze redundancy"):
    assert f"### filax {name}\n" in commands


def test_every_setting_is_listed():
  page = "\n".join(settings_page.settings_lines())
  for name, _ in settings.leaves(common.base().to_dict()):
    assert f"| `config.{name}` |" in page


def test_settings_of_a_group_stand_together():
  headings = [line for line in settings_page.settings_lines() if line.startswith("## config")]
  assert headings[0] == "## config" and len(headings) == len(set(headings))


def test_comments_of_settings_are_read():
  notes = settings_page.comments("  # Above,\n  c.first = 1  # beside.\n  second=2,  # Two.\n")
  assert notes == {"first": "Above, beside.", "second": "Two."}


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("A `code` word.", "A \\ ``code``\\  word."),
    ("Weights *a*, b_ and |c|.", "Weights \\*a\\*, b\\_ and \\|c\\|."),
    (":debug is the same.", "\\:debug is the same."),
    ("A. is not a number.", "\\A. is not a number."),
    ("It says::", "It says:"),
  ],
)
def test_a_line_of_a_docstring(text, expected):
  assert docstrings.as_restructured_text([text]) == [expected, ""]


def test_indented_lines_are_code():
  lines = docstrings.as_restructured_text(["Examples:", "", "  x = *y*", "", "The end."])
  assert lines == ["Examples:", "", "::", "", "    x = *y*", "", "The end.", ""]


def test_lines_of_a_list_item_are_joined():
  lines = docstrings.as_restructured_text(["- One", "  and more.", "- Two."])
  assert lines == ["- One and more.", "- Two.", ""]


def test_no_page_of_a_room_is_empty():
  for package, deep in api_pages.ROOMS:
    assert api_pages.module_names(package, deep), package
