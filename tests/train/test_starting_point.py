# SPDX-License-Identifier: Apache-2.0
"""What a run takes from config.init_from besides parameters."""

import pytest

from filax import starting_point
from filax.checkpoint import store
from filax.cli import config_flags, show
from filax.models import components
from filax.testing import qwen2_folder, tiny_checkpoint

ROWS = 576  # More than the variant has.


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  return tiny_checkpoint.write_checkpoint(folder, **{"model.llm.vocab": ROWS})


def completed(model, workdir):
  words = ["--config=fila_toy:debug", f"--config.init_from={model}"]
  config, _ = config_flags.read_config(words)
  starting_point.complete(config, str(workdir))
  return config


def test_a_run_has_the_embeddings_and_the_tokenizer_of_its_first_parameters(
  model, tmp_path, capsys
):
  config = completed(model, tmp_path)
  assert components.build_video_lm(config.model).vocab == ROWS
  assert config.data.tokenizer == model
  assert f"config.model.llm.vocab={ROWS}: the number of embeddings in {model}" in (
    capsys.readouterr().err
  )


@pytest.mark.parametrize("kind", ["run", "released", "gone"])
def test_show_counts_the_embeddings_of_the_first_parameters(kind, model, tmp_path, capsys):
  source = {"run": model, "gone": tmp_path / "gone"}.get(kind)
  if kind == "released":
    tensors = qwen2_folder.qwen2_tensors(vocab=ROWS)
    source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", tensors)
  assert show.main(["--config=fila_toy:debug", f"--config.init_from={source}"]) == 0
  shown = capsys.readouterr().out
  assert (f"config.model.llm.vocab = {ROWS}" in shown) == (kind != "gone")


def test_a_run_that_continues_needs_no_first_parameters(model, tmp_path):
  config = completed(tmp_path / "gone", model)  # The model stands for a run with a checkpoint.
  assert config.model.llm.vocab == ROWS


def test_a_wrong_path_is_named_before_data_are_read(tmp_path):
  with pytest.raises(store.NoCheckpoint, match=r"config\.init_from: No readable .* in .*/nowhere"):
    completed(tmp_path / "nowhere", tmp_path)
