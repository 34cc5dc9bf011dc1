# SPDX-License-Identifier: Apache-2.0
"""A start that is refused leaves the tokenizer of the checkpoints as it was."""

import pytest

from data_pipelines.synthesis import toy
from data_pipelines.text import tokenizers
from filax import shipped_configs
from filax.train import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  return toy.tiny_corpus(tmp_path_factory.mktemp("corpus"))


def open_data(corpus, workdir, tokenizer, **changes):
  config = shipped_configs.load_module("fila_stage4").get_config("debug")
  config.debug_corpus = ""
  config.data.train = ((str(corpus / "manifest.json"), "all"),)
  config.data.tokenizer = str(tokenizer)
  config.data.rows = ((6, 0, 512, 1),)
  config.update_from_flattened_dict(changes)
  run.open_data(config, str(workdir))
  return (workdir / "tokenizer.model").read_bytes()


def test_the_tokenizer_of_checkpoints_stays_until_another_plan_is_wanted(corpus, tmp_path):
  first = corpus / "tokenizer.model"
  other = tmp_path / "other.model"
  words = [f"another text with number {number} and words" for number in range(300)]
  tokenizers.train_sentencepiece(words, other, vocab_size=300)
  workdir = tmp_path / "run"
  before = open_data(corpus, workdir, first)
  (workdir / "checkpoints/4").mkdir(parents=True)
  assert open_data(corpus, workdir, other) == before
  (workdir / "tokenizer.model").write_bytes(b"damaged")
  assert open_data(corpus, workdir, first) == before
