# SPDX-License-Identifier: Apache-2.0
"""The pages that are made from configs, plans, parsers and docstrings."""

import importlib
import json
import re

import pytest

from docs.generators import api_pages, command_pages, docstrings, settings_page, stage_cards
from docs.generators.setting_meanings import MEANINGS, OTHER_WORDS
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


def setting_rows():
  """Name -> cells of the page of settings: default, valid values, meaning."""
  rows = {}
  for line in settings_page.settings_lines():
    if line.startswith("| `config."):
      name, *cells = re.split(r" (?<!\\)\| ", line.removeprefix("| ").removesuffix(" |"))
      rows[name.strip("`").removeprefix("config.")] = cells
  return rows


def test_every_setting_has_valid_values_and_a_meaning():
  rows = setting_rows()
  defaults = {name for name, _ in settings.leaves(common.base().to_dict())}
  assert rows.keys() == defaults | settings.TABLE.keys() | OTHER_WORDS.keys()
  assert [name for name, cells in rows.items() if len(cells) != 3 or not all(cells)] == []


def test_a_setting_has_the_comment_of_its_own_group():
  rows = setting_rows()
  assert "Optimizer steps" in rows["steps"][-1]
  assert "K-Means" in rows["infer.selector.steps"][-1]


def test_meanings_are_only_written_where_there_is_no_comment():
  notes = settings_page.comments(settings_page.SOURCE.read_text())
  assert notes.keys() & MEANINGS.keys() == set()
  assert MEANINGS.keys() <= settings_page.all_settings().keys()


def test_comments_name_all_words_of_a_setting():
  """A comment such as "squash | pad" lists what the table allows."""
  rows = setting_rows()
  checked = 0
  for name, note in settings_page.comments(settings_page.SOURCE.read_text()).items():
    listed = re.search(r"\w+( \([^)]*\))?( \| \w+)+", note)
    if listed is None or name not in rows or "one of " not in settings.TABLE[name].words:
      continue
    words = re.sub(r" \([^)]*\)", "", listed[0]).split(" | ")
    assert f"one of {', '.join(words)}" == settings.TABLE[name].words, name
    checked += 1
  assert checked > 8


def test_settings_of_a_group_stand_together():
  headings = [line for line in settings_page.settings_lines() if line.startswith("## config")]
  assert headings[0] == "## config" and len(headings) == len(set(headings))


def test_comments_of_settings_are_read():
  source = """
def base():
  # Above,
  c.first = 1  # beside.
def data():
  first=2,  # Of the data.
def other():
  first=3  # Of nothing.
"""
  assert settings_page.comments(source) == {"first": "Above, beside.", "data.first": "Of the data."}


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
