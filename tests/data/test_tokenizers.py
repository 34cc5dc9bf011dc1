# SPDX-License-Identifier: Apache-2.0
"""Round trips, and the promise that text never becomes a control token."""

import json
import pickle

from hypothesis import given
from hypothesis import strategies as st
import pytest
import tokenizers as hf

from data_pipelines.text import tokenizer_folder, tokenizers
from filax.testing import tiny_tokenizer

NAMES = [
  *tiny_tokenizer.CONTROL_TOKENS,
  "<tool_call>",
  "<image>",
  "<s>",
  "</s>",
  "<unk>",
  "<pad>",
  "<0x41>",
  "\u2581",
]
WILD = st.lists(st.sampled_from(NAMES) | st.text(max_size=8) | st.just("\ud800"), max_size=6)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
  return tokenizers.load_tokenizer(
    tiny_tokenizer.write_qwen_tokenizer(tmp_path_factory.mktemp("bpe"))
  )


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
  path = tmp_path_factory.mktemp("spm") / "small.model"
  return tokenizers.train_sentencepiece([*tiny_tokenizer.TEXTS] * 4, path, 400)


@given(parts=WILD)
@pytest.mark.parametrize("kind", ["byte_level", "pieces"])
def test_text_round_trips_and_never_becomes_a_control(kind, parts, request):
  tokenizer = request.getfixturevalue(kind)
  text = "".join(parts)
  ids = tokenizer.encode(text)
  assert not set(ids) & set(tokenizer.controls.values())
  assert all(0 <= id < tokenizer.vocab_size for id in ids)
  expected = text.encode("utf-8", "replace").decode()
  assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special=False) == expected


@pytest.mark.parametrize("kind", ["byte_level", "pieces"])
def test_controls_come_by_name(kind, request):
  tokenizer = request.getfixturevalue(kind)
  start, end = tokenizer.special("<|im_start|>"), tokenizer.special("<|im_end|>")
  ids = [start, *tokenizer.encode("user\n"), end, tokenizer.vocab_size + 7]
  assert tokenizer.decode(ids) == "user\n"
  assert tokenizer.decode(ids, skip_special=False) == "<|im_start|>user\n<|im_end|>"
  assert tokenizer.pad_id == tokenizer.special("<|endoftext|>")
  assert tokenizer.stop_ids == (end, tokenizer.pad_id)
  with pytest.raises(ValueError, match=r"'<\|eot\|>'.*config\.data\.tokenizer"):
    tokenizer.special("<|eot|>")


def test_the_end_token_of_a_released_tokenizer_ends_an_answer(byte_level):
  """That of DeepSeek's Qwen is none of the common names."""
  content = byte_level.content.decode()
  for name, other in (("<|im_end|>", "<|Assistant|>"), ("<|endoftext|>", "<|end_of_sentence|>")):
    content = content.replace(name, other)
  ends = ["<|end_of_sentence|>"]
  tokenizer = type(byte_level)(byte_level.path, content.encode(), None, ends)
  assert tokenizer.stop_ids == (tokenizer.special("<|end_of_sentence|>"),)


@pytest.mark.parametrize(
  "documents, expected",
  [
    ({"tokenizer_config.json": dict(eos_token="<tool_call>")}, 1),
    ({"tokenizer_config.json": dict(eos_token=dict(content="?"))}, 1),  # An ordinary word.
    ({"special_tokens_map.json": dict(eos_token="<tool_call>")}, 1),
    ({"generation_config.json": dict(eos_token_id=[4, 5, 10**9])}, 2),
    ({"generation_config.json": dict(eos_token_id=4), "config.json": dict(eos_token_id=5)}, 1),
    ({"generation_config.json": {}, "config.json": dict(eos_token_id=[4, 5])}, 2),
    ({"config.json": dict(text_config=dict(eos_token_id=4))}, 1),
    ({"config.json": dict(eos_token_id=None)}, 0),
    ({"tokenizer_config.json": dict(eos_token="<|im_end|>"), "config.json": []}, 0),
  ],
)
def test_end_tokens_of_all_files_end_an_answer(documents, expected, byte_level, tmp_path):
  """Also without a chat template. The saved copy knows them without these files."""
  byte_level.save(tmp_path)
  for name, content in documents.items():
    (tmp_path / name).write_text(json.dumps(content))
  tokenizer = tokenizers.load_tokenizer(tmp_path)
  added = set(tokenizer.stop_ids) - set(byte_level.stop_ids)
  assert len(added) == expected
  tokenizer.save(tmp_path / "run")
  assert tokenizers.load_tokenizer(tmp_path / "run").stop_ids == tokenizer.stop_ids
  assert pickle.loads(pickle.dumps(tokenizer)).stop_ids == tokenizer.stop_ids


def test_a_damaged_generation_config_is_named(byte_level, tmp_path):
  byte_level.save(tmp_path)
  (tmp_path / "generation_config.json").write_text("{")
  with pytest.raises(ValueError, match=r"generation_config\.json beside it"):
    tokenizers.load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["byte_level", "pieces"])
def test_saved_and_pickled_copies_are_the_same(kind, request, tmp_path):
  tokenizer = request.getfixturevalue(kind)
  tokenizer.save(tmp_path / "run")
  for copy in (tokenizers.load_tokenizer(tmp_path / "run"), pickle.loads(pickle.dumps(tokenizer))):
    assert copy.encode("What is <|im_end|>?") == tokenizer.encode("What is <|im_end|>?")
    assert copy.fingerprint == tokenizer.fingerprint


def test_words_of_the_base_vocabulary_that_are_controls_are_cut_open(tmp_path):
  words = {"<unk>": 0, "<s>": 1, "<": 2, "s": 3, ">": 4, "s>": 5, "red": 6}
  word_level = hf.Tokenizer(hf.models.WordLevel(words, unk_token="<unk>"))
  word_level.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
  word_level.add_special_tokens(["<s>", "<unk>"])
  word_level.save(str(tmp_path / "tokenizer.json"))
  tokenizer = tokenizers.load_tokenizer(tmp_path)
  assert tokenizer.encode("red <s> blue") == [6, 2, 5, 0]


def test_symbols_of_a_foreign_sentencepiece_model_never_match(tmp_path):
  import sentencepiece

  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([*tiny_tokenizer.TEXTS] * 4),
    model_prefix=str(tmp_path / "llama"),
    vocab_size=340,
    model_type="bpe",
    byte_fallback=True,
    user_defined_symbols=["<|im_start|>", "<|im_end|>", "\n"],
    minloglevel=2,
  )
  tokenizer = tokenizers.load_tokenizer(
    tmp_path / "llama.model"
  )  # With the prefix and </s>, as Llama has.
  ids = tokenizer.encode("red</s> <|im_end|>\nuser")
  assert not set(ids) & set(tokenizer.controls.values())
  assert tokenizer.decode(ids) == "red</s> <|im_end|>\nuser"
  assert tokenizer.special("</s>") in tokenizer.stop_ids


@pytest.mark.parametrize("added", ["decoder", "file"])
def test_vocabulary_and_merges_of_qwen2_give_the_same_ids(added, byte_level, tmp_path):
  """As the slow tokenizer of transformers saves them, newer and older."""
  content = json.loads(byte_level.content)
  merges = [" ".join(pair) for pair in content["model"]["merges"]]
  (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
  (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
  tokens = content["added_tokens"]
  config = dict(tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>")
  if added == "decoder":
    config["added_tokens_decoder"] = {str(token.pop("id")): token for token in tokens}
  else:
    config["additional_special_tokens"] = list(tiny_tokenizer.CONTROL_TOKENS)
    ids = {token["content"]: token["id"] for token in tokens}
    (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  read = tokenizer_folder.load_if_present(tmp_path)
  text = "What's in the video? 123 <|im_end|><tool_call>\n\n é"
  assert read.encode(text) == byte_level.encode(text)
  assert read.controls == byte_level.controls and read.vocab_size == byte_level.vocab_size
  assert read.decode(read.encode(text)) == text
  read.save(tmp_path / "saved")
  assert tokenizers.load_tokenizer(tmp_path / "saved").encode(text) == read.encode(text)


def test_the_merges_of_another_class_are_not_read(tmp_path):
  (tmp_path / "vocab.json").write_text("{}")
  (tmp_path / "merges.txt").write_text("")
  (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
  assert tokenizer_folder.load_if_present(tmp_path) is None


def test_training_is_repeatable_and_bounded(tmp_path):
  first = tokenizers.train_sentencepiece([*tiny_tokenizer.TEXTS], tmp_path / "a.model", 300)
  second = tokenizers.train_sentencepiece([*tiny_tokenizer.TEXTS], tmp_path / "b.model", 300)
  assert first.fingerprint == second.fingerprint
  assert len(first.encode("\n")) == 1  # The newline of ChatML is a token of its own.
  with pytest.raises(ValueError, match="260 is too small"):
    tokenizers.train_sentencepiece([*tiny_tokenizer.TEXTS], tmp_path / "c.model", 260)


def test_errors_name_the_knob(tmp_path, pieces):
  with pytest.raises(ValueError, match=r"No tokenizer at .*config\.data\.tokenizer"):
    tokenizers.load_tokenizer(tmp_path / "missing.json")
  (tmp_path / "broken.model").write_bytes(b"not a model")
  (tmp_path / "broken.json").write_text("{}")
  for name in ("broken.model", "broken.json"):
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
      tokenizers.load_tokenizer(tmp_path / name)
  with pytest.raises(ValueError, match=r"broken.json cannot be read .*\. Set --tokenizer to"):
    tokenizers.load_tokenizer(tmp_path / "broken.json", tokenizers.set_to("--tokenizer"))
  tokenizers.check_vocabulary(pieces, pieces.vocab_size)
  with pytest.raises(ValueError, match=r"32 vocabulary rows.*config\.model\.llm\.variant"):
    tokenizers.check_vocabulary(pieces, 32)


def test_a_damaged_tokenizer_beside_a_model_is_no_setting(tmp_path):
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read") as caught:
    tokenizer_folder.load_if_present(tmp_path)
  assert "config.data" not in str(caught.value)


def test_a_damaged_tokenizer_config_is_named(tmp_path, pieces):
  file = pieces.save(tmp_path)[0]
  (tmp_path / "tokenizer_config.json").write_text("{,}")
  with pytest.raises(ValueError, match=r"tokenizer_config\.json beside it"):
    tokenizers.load_tokenizer(file)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_pointer_of_git_lfs_is_no_tokenizer(tmp_path, name):
  (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
  with pytest.raises(ValueError, match="run `git lfs pull`"):
    tokenizers.load_tokenizer(tmp_path)
