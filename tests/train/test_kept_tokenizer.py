# SPDX-License-Identifier: Apache-2.0
"""A start that is refused leaves the tokenizer of the checkpoints as it was."""

import pytest

from data_pipelines.synthesis import toy
from data_pipelines.text import tokenizer_folder, tokenizers
from filax.configs import fila_stage4
from filax.testing.tiny_tokenizer import write_qwen_tokenizer
from filax.train import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  return toy.tiny_corpus(tmp_path_factory.mktemp("corpus"))


def open_data(corpus, workdir, tokenizer, **changes):
  config = fila_stage4.get_config("debug")
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


def test_a_tokenizer_of_another_kind_replaces_that_of_the_checkpoints(corpus, tmp_path):
  """Readers look for a tokenizer.json first, so the former one must go."""
  workdir = tmp_path / "run"
  json_file = write_qwen_tokenizer(tmp_path)
  (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
  with pytest.raises(FileNotFoundError):
    open_data(corpus, workdir, json_file)  # It writes no tokenizer.model.
  assert tokenizer_folder.load_if_present(workdir).chat is not None
  (workdir / "checkpoints/4").mkdir(parents=True)
  first = corpus / "tokenizer.model"
  open_data(corpus, workdir, first, ignore_fingerprint=True)
  kept = tokenizer_folder.load_if_present(workdir)
  assert kept.content == first.read_bytes() and kept.chat is None
