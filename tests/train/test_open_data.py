# SPDX-License-Identifier: Apache-2.0
"""What a run says about its data before it trains."""

import pytest

from filax.configs import fila_toy
from filax.testing import manifests
from filax.train import run

pytestmark = pytest.mark.slow


def test_a_debug_corpus_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").touch()
  for folder in (tmp_path / "file", tmp_path / "file" / "corpus"):
    with pytest.raises(ValueError, match=rf"config.debug_corpus='{folder}' cannot be written"):
      run.make_corpus(folder)


def test_a_row_shape_without_samples_and_a_bad_record_are_named(tmp_path, capsys):
  config = fila_toy.get_config("stage=2,debug")
  config.debug_corpus = str(tmp_path / "corpus")
  run.make_corpus(tmp_path / "corpus")
  with config.unlocked():
    config.data.root = config.debug_corpus
    config.data.tokenizer = f"{config.debug_corpus}/tokenizer.model"
    bad = manifests.write_manifest(tmp_path / "bad.json", [{"id": 1}])
    config.data.train = ((f"{config.debug_corpus}/manifest.json", "all"), (bad, "all"))
    frames, images, positions, samples = config.data.rows[0]
    config.data.rows = (*config.data.rows, (2 * frames, images, 3 * positions, 4 * samples))
  run.open_data(config, str(tmp_path))
  said = capsys.readouterr().err
  assert f"No sample is in a row of {2 * frames} frames, 0 images and {3 * positions}" in said
  assert "shortest of config.data.rows" in said
  assert f"The first bad record is {bad}:2: has no conversations" in said
