# SPDX-License-Identifier: Apache-2.0
"""A run with remat="auto" and accumulate="auto": what it stores, keeps and prints."""

import json

import pytest

from filax.testing import row_source
from filax.train import loop, setup

pytestmark = pytest.mark.slow

AUTO = {
  "model.encoder.remat": "auto",
  "model.llm.remat": "auto",
  "optim.accumulate": "auto",
  "mesh.data": 2,
  "mesh.fsdp": 4,
}


def config(**changes):
  tiny = row_source.tiny_train_config(batch=16, checkpoint_every=1)
  with tiny.unlocked():
    tiny.update_from_flattened_dict(AUTO | changes)
  return tiny


def stored(folder):
  text = json.loads((folder / "config.json").read_text())
  return (
    text["model"]["encoder"]["remat"],
    text["model"]["llm"]["remat"],
    text["optim"]["accumulate"],
  )


def run(folder, **changes):
  return loop.train_pipeline(config(**changes), folder, row_source.RandomRows(16))


@pytest.mark.long
def test_a_choice_is_stored_and_kept_and_gives_way_to_a_setting(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(loop.chips, "usable_bytes", lambda devices: 1000.0)  # Nothing fits.
  run(tmp_path, steps=1)
  assert stored(tmp_path) == ("nothing", "nothing", 2)
  assert "config.optim.accumulate=2" in capsys.readouterr().err
  monkeypatch.undo()
  run(tmp_path, steps=2)
  assert stored(tmp_path) == ("nothing", "nothing", 2), "more memory, but the run has begun"
  run(tmp_path, steps=3, **{"model.llm.remat": "attn", "optim.accumulate": 1})
  assert stored(tmp_path) == ("nothing", "attn", 1)


def test_a_cpu_shares_the_memory_of_its_host():
  prepared = setup.prepare(config().to_dict(), 4)
  assert prepared.fit.has_room and prepared.micro_batches == 1
  assert (prepared.model.encoder.remat, prepared.model.llm.remat) == ("products", "products")
