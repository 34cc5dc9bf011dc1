# SPDX-License-Identifier: Apache-2.0
"""The first words of an answer, written for the model, are the tokens of a trained answer."""

import pytest

from data_pipelines.sample import Sample, Turn
from data_pipelines.text import templates, tokenizers
from filax.testing import tiny_tokenizer

START = "Best option:("
TEXTS = (*tiny_tokenizer.TEXTS, f"{START}A) a circle", f"{START}B")


@pytest.fixture(params=["bpe", "sentencepiece"])
def tokenizer(request, tmp_path):
  if request.param == "bpe":
    return tokenizers.load_tokenizer(tiny_tokenizer.write_qwen_tokenizer(tmp_path, TEXTS))
  tokenizers.train_sentencepiece(TEXTS * 3, tmp_path / "tokenizer.model", vocab_size=340)
  return tokenizers.load_tokenizer(tmp_path / "tokenizer.model")


@pytest.mark.parametrize("template", ["chatml", "brief", "plain"])
def test_a_started_answer_has_the_tokens_of_training(tokenizer, template):
  question = Turn("user", ("What is shown?",))
  answered = Sample("x", (question, Turn("assistant", (f"{START}A) a circle",))))
  trained = templates.encode_conversation(answered, tokenizer, template=template).tokens.tolist()
  prompt = templates.encode_prompt(
    (question,), tokenizer, template=template, answer_start=START
  ).tokens.tolist()
  assert trained[: len(prompt)] == prompt
  assert tokenizer.decode(prompt).endswith(START)


def test_nothing_is_added_without_a_start(tokenizer):
  question = (Turn("user", ("What is shown?",)),)
  prompt = templates.encode_prompt(question, tokenizer).tokens
  assert templates.encode_prompt(question, tokenizer, answer_start="").tokens.tolist() == (
    prompt.tolist()
  )
