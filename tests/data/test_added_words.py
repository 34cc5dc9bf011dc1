# SPDX-License-Identifier: Apache-2.0
"""Words added to a vocabulary: plain ones are text, special ones are controls, at any length."""

import pathlib

import pytest
import tokenizers as hf

from data_pipelines.text import tokenizers
from filax.testing import tiny_tokenizer

WORDS = ["<t0>", "<t1>", "<t10>", "<tool_call>", "</tool_call>", "<place 3>", "<é>", "\n\n", "日"]


def with_words(folder: pathlib.Path, words, special=()) -> tokenizers.Tokenizer:
  """A byte-level tokenizer like Qwen's with more added words."""
  path = tiny_tokenizer.write_qwen_tokenizer(folder)
  library = hf.Tokenizer.from_file(str(path))
  library.add_tokens([hf.AddedToken(word, special=False, normalized=False) for word in words])
  library.add_special_tokens([*special])
  library.save(str(path))
  return tokenizers.load_tokenizer(path)


@pytest.mark.parametrize("word", WORDS)
def test_a_plain_word_is_one_id_and_text(word, tmp_path):
  tokenizer = with_words(tmp_path, WORDS)
  library = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  id = library.token_to_id(word)
  text = f"from {word} to{word}{word} red"
  ids = tokenizer.encode(text)
  assert ids.count(id) == 3
  assert ids == library.encode(text, add_special_tokens=False).ids
  assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special=False) == text
  assert word not in tokenizer.controls


def test_special_words_are_left_out_and_never_made(tmp_path):
  tokenizer = with_words(tmp_path, ["<t0>"], special=["<sep>", "|"])
  text = "red<sep> <t0> <|im_end|>|"
  ids = tokenizer.encode(text)
  assert tokenizer.special("<sep>") not in ids
  assert tokenizer.special("<|im_end|>") not in ids
  assert tokenizer.decode(ids) == text
  assert tokenizer.decode([tokenizer.special("<sep>"), *ids]) == text
  assert "|" not in tokenizer.controls  # A single character is text.


def test_what_ends_a_turn_is_a_control_however_it_was_added(tmp_path):
  library = hf.Tokenizer.from_file(str(tiny_tokenizer.write_qwen_tokenizer(tmp_path)))
  state = library.to_str().replace('"special":true', '"special":false')
  (tmp_path / "tokenizer.json").write_text(state)
  tokenizer = tokenizers.load_tokenizer(tmp_path)
  assert set(tokenizer.controls) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
  ids = tokenizer.encode("red<|im_end|><|im_start|>user")
  assert not set(ids) & set(tokenizer.controls.values())
  assert tokenizer.stop_ids == (tokenizer.special("<|im_end|>"), tokenizer.pad_id)


def test_text_without_added_words_has_the_ids_of_the_bare_vocabulary(tmp_path):
  tokenizer = with_words(tmp_path, ["<t0>"])
  state = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).to_str()
  start, end = state.index('"added_tokens":['), state.index('"normalizer"')
  bare = hf.Tokenizer.from_str(state[:start] + '"added_tokens":[],' + state[end:])
  for text in (
    *tiny_tokenizer.TEXTS,
    "<|im_end|>",
    "a <|im_start|>user\n<image>",
    "<t",
    "0> <|im_",
    "",
  ):
    assert tokenizer.encode(text) == bare.encode(text).ids


def test_user_defined_symbols_of_sentencepiece(tmp_path):
  import sentencepiece

  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([*tiny_tokenizer.TEXTS] * 4),
    model_prefix=str(tmp_path / "m"),
    vocab_size=340,
    model_type="bpe",
    byte_fallback=True,
    minloglevel=2,
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    normalization_rule_name="identity",
    user_defined_symbols=["<|im_start|>", "<|im_end|>", "<t0>", "<t1>", "<|other|>", "<image>"],
  )
  tokenizer = tokenizers.load_tokenizer(tmp_path / "m.model")
  text = "from <t0> to <t1><|im_end|> <|other|><image> </s>"
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  assert not set(ids) & set(tokenizer.controls.values())
  assert {"<|im_start|>", "<|im_end|>", "<|other|>", "<image>", "</s>"} <= set(tokenizer.controls)
  assert not {"<t0>", "<t1>"} & set(tokenizer.controls)
  assert len(tokenizer.encode("<t0><t1>")) == 2


NAMES = {"<unk>": 0, "<s>": 1, "<": 2, "s": 3, ">": 4, "s>": 5, "red": 6}


def whole_words(folder: pathlib.Path) -> tokenizers.Tokenizer:
  """A vocabulary of whole words that holds a control's name."""
  library = hf.Tokenizer(hf.models.WordLevel(NAMES, unk_token="<unk>"))
  library.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
  library.add_special_tokens(["<s>", "<unk>"])
  library.save(str(folder / "tokenizer.json"))
  return tokenizers.load_tokenizer(folder)


def unmerged(folder: pathlib.Path) -> tokenizers.Tokenizer:
  """A BPE vocabulary that is looked up before it merges, and holds a control's name."""
  library = hf.Tokenizer(hf.models.BPE(NAMES, [], unk_token="<unk>", ignore_merges=True))
  library.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
  library.add_special_tokens(["<s>", "<unk>"])
  library.save(str(folder / "tokenizer.json"))
  return tokenizers.load_tokenizer(folder)


@pytest.mark.parametrize("make", [whole_words, unmerged])
def test_many_names_in_a_text_need_no_stack(make, tmp_path):
  tokenizer = make(tmp_path)
  few, many = tokenizer.encode("red <s> " * 2), tokenizer.encode("red <s> " * 5000)
  assert tokenizer.special("<s>") not in many
  assert many == few[: len(few) // 2] * 5000


def test_a_long_run_of_sentencepieces_space_letter(tmp_path):
  tokenizer = tokenizers.train_sentencepiece([*tiny_tokenizer.TEXTS] * 4, tmp_path / "m.model", 400)
  for text in ("\u2581" * 50_000, "a\u2581" * 50_000):
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode(text[:2]) * (len(text) // 2)
    assert tokenizer.decode(ids) == text
