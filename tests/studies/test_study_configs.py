# SPDX-License-Identifier: Apache-2.0
"""Every study builds, small and with the 7B, and claims only what it measures."""

import json
import pathlib

from ml_collections import ConfigDict
import pytest

from data_pipelines.synthesis.world.recipe import read_recipe
from filax.cli import study
from filax.models import components
from filax.settings import check_settings
from filax.studies.study_hash import cell_hash
from filax.studies.study_run import check_run
from filax.studies.study_units import answering_selector

WITHOUT_PARAMETERS = ("tome", "uneven", "pixel_shuffle")
CELLS = pathlib.Path(__file__).parents[2] / "docs/evidence/cells"
NAMES = sorted(path.stem for path in study.STUDIES.glob("[fv]*_*.py"))


def design_of(name, argument):
  path, _ = study.study_file(name)
  return study.load_design(path, argument)


@pytest.mark.parametrize("argument", ["", "7b"])
@pytest.mark.parametrize("name", NAMES)
def test_runs_and_cells_build(name, argument):
  """The model of each run, its rows, and each cell's selector over its frames."""
  design = design_of(name, argument)
  for run in design.runs.values():
    config = ConfigDict(run.config)
    check_settings(config)
    model = components.build_video_lm(config.model)
    layout = model.layout()
    frames = model.selector.groups(config.data.sampling.frames) * layout.tokens_per_group
    assert 0 < frames < config.data.rows[-1][2]
    assert all(row[0] % layout.frames_per_group == 0 for row in config.data.rows)
  for cell in design.cells.values():
    if cell.run:
      config = design.runs[cell.run].config
      answering_selector(config["infer"], cell).groups(
        cell.infer.get("sampling", config["infer"]["sampling"])["frames"]
      )


def test_published_cells_are_of_todays_configs():
  """So a new rate in configs/fila_toy.py cannot outdate them unseen."""
  paths = sorted(CELLS.glob("*/*.seed*.json"))
  assert paths
  for path in paths:
    cell = json.loads(path.read_text())
    name = cell["study"].removesuffix("_varied")
    design = design_of(name, "varied" if name != cell["study"] else "")
    assert cell_hash(design, design.cells[cell["cell"]], cell["seed"]) == cell["hash"], path


def test_a_variation_is_a_study_of_its_own():
  design = design_of("fila_table2", "")
  varied = design_of("fila_table2", "varied")
  assert varied.name == "fila_table2_varied"
  assert varied.runs["weighted"].config["steps"] == 2800
  assert varied.runs["see"].config == design.runs["see"].config
  assert varied.data["joined_scenes"] == (1, 7)
  assert varied.contrasts == design.contrasts
  with pytest.raises(ValueError, match="Leave it out, or leave out 7b"):
    design_of("fila_table2", "7b,varied")


@pytest.mark.parametrize(
  ("name", "answer"),
  [
    ("vcf_table4", "vcf_answer32"),
    ("vcf_table7", "deep"),
    ("vcf_fig8", "deep"),
    ("vcf_table8", "vcf_pretrained"),
  ],
)
def test_varied_video_chat_flash_learns_to_look_up_first(name, answer):
  design = design_of(name, "")
  varied = design_of(name, "varied")
  look_up = varied.runs[f"{answer}_look_up"]
  assert look_up.after == design.runs[answer].after
  assert varied.runs[answer].after == f"{answer}_look_up"
  frames, _, positions, _ = look_up.config["data"]["rows"][0]
  assert (frames, positions) == (16, 16 * 2 + 104)
  assert all(rate > 0 for _, rate in look_up.config["optim"]["rates"])
  assert set(varied.runs) == {*design.runs, f"{answer}_look_up"}
  for run in varied.runs.values():
    assert run.config["model"]["llm"]["theta"] == 1e8
    assert run.config["optim"]["kind"] == "muon"
    check_settings(ConfigDict(run.config))
  assert varied.data["brief"] > 0
  assert varied.contrasts == design.contrasts


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["", "7b"])
@pytest.mark.parametrize("name", ["fila_table3", "vcf_table6", "vcf_table5"])
def test_rates_fit_the_parameters(name, argument):
  """These studies have all the models of the others.

  Paths of parameters do not depend on sizes, so those of the 7B are read off tiny parts.
  """
  for run in design_of(name, argument).runs.values():
    config = ConfigDict(run.config)
    if argument:
      config.model.encoder.variant = "tiny"
      config.model.llm.variant = "tiny"
      config.model.llm.dropout = "off"
      if config.model.merger.name in WITHOUT_PARAMETERS:
        config.model.merger = dict(name="mean")
    check_run(config)


@pytest.mark.parametrize("name", NAMES)
def test_the_small_world_can_be_made(name):
  recipe = dict(design_of(name, "").data)
  assert recipe.pop("kind") == "world"
  read_recipe(recipe)


@pytest.mark.parametrize("name", NAMES)
def test_both_sizes_make_the_same_claims(name):
  """The same order of the same cells, in as many columns or more."""
  claims = []
  for argument in ("", "7b"):
    pairs = {(claim.higher, claim.lower) for claim in design_of(name, argument).contrasts}
    claims.append(pairs)
  assert all(claims)
  if name not in ("vcf_table5", "vcf_table6", "vcf_fig8"):  # Other levels and layers.
    assert claims[0] <= claims[1]


@pytest.mark.parametrize("name", NAMES)
def test_claims_follow_the_published_numbers(name):
  design = design_of(name, "")
  for claim in design.contrasts:
    higher = design.published.get((claim.column, claim.higher))
    lower = design.published.get((claim.column, claim.lower))
    if higher is not None and lower is not None:
      assert higher > lower, claim


def test_a_checkpoint_may_stand_for_the_runs():
  design = design_of("vcf_table7", "7b,checkpoint=released")
  assert not design.runs
  assert {cell.checkpoint for cell in design.cells.values()} == {"released"}


def test_studies_share_runs_by_their_names():
  """The run "see" of two studies is the same, so one workdir trains it once."""
  runs = [design_of(name, "").runs["see"] for name in ("fila_table2", "fila_tokens")]
  assert runs[0] == runs[1]
