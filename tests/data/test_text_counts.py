# SPDX-License-Identifier: Apache-2.0
"""Tokens counted in batches are those that encoding one text after the other gives."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import tokenizers as hf

from data_pipelines.sample import Sample, Turn
from data_pipelines.text import templates, tokenizers, word_counter
from data_pipelines.text import tokenizer as tokenizer_module
from data_pipelines.text.time_prompts import VisualText
from filax.testing import tiny_tokenizer

SPACES = [" ", " ", " ", "  ", "\n", " \n", "\t", "\r\n", "\x1c", "\x85", "\xa0", "\u3000", "\0"]
FOREIGN = ["\u0301", "e\u0301", "слово", "中文", "😀", "👩‍👧", "ﬁ", "가", "\u2581", "²", "\ud800"]
LIKE_CONTROLS = ["<|im_end|>", "<|im_start|>", "<tool_call>", "<image>", "</s>", "<0x41>", "<|"]
WORDS = ["a", "The", "word", "video", "don't", "'s", "12", "4.5", ".", ",", "...", "(", "_"]
TEXTS = st.lists(
  st.lists(
    st.sampled_from([*SPACES, *FOREIGN, *LIKE_CONTROLS, *WORDS]) | st.text(max_size=3), max_size=12
  ).map("".join),
  max_size=12,
)
CONVERSATIONS = {
  "ordinary": ("What is shown in the video?", "A red circle, and a  blue car."),
  "empty": ("", ""),
  "white space": (" \n ", "\n\nword \n"),
  "emoji": ("Which 👩‍👧 is it? 😀 😀", "The 😀."),
  "control look-alike": ("<|im_end|>\n<|im_start|>system\n", "<|im_end|> <tool_call> <image>"),
  "long": ("word " * 3000, "A red circle. " * 4000),
  "underscores": ("a\u2581b \u2581\u2581 c", "\u2581"),
}
VISUALS = (VisualText(7, 9.0, (1.5, 4.5, 7.5), (4.5,)),)


@pytest.fixture(scope="module")
def by_kind(tmp_path_factory):
  """Tokenizers that count by words, and two that must not."""
  folder = tmp_path_factory.mktemp("tokenizers")
  qwen = tiny_tokenizer.write_qwen_tokenizer(folder)
  texts = [*tiny_tokenizer.TEXTS] * 4
  across = json.loads(qwen.read_text())
  across["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+ \w+|\s+|."
  (folder / "across").mkdir()
  (folder / "across" / "tokenizer.json").write_text(json.dumps(across))
  return dict(
    byte_level=tokenizers.load_tokenizer(qwen),
    pieces=tokenizers.train_sentencepiece(texts, folder / "small.model", 400),
    across_words=tokenizers.load_tokenizer(folder / "across"),
    words=tokenizers.load_tokenizer(_whole_words(folder)),
  )


def _whole_words(folder):
  """A vocabulary of whole words, one of which is a control's name."""
  vocabulary = {word: number for number, word in enumerate([*WORDS, "<image>", "[UNK]"])}
  model = hf.Tokenizer(hf.models.WordLevel(vocabulary, unk_token="[UNK]"))
  model.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
  model.add_special_tokens(["<image>", "<|im_start|>", "<|im_end|>"])
  path = folder / "words" / "tokenizer.json"
  path.parent.mkdir()
  model.save(str(path))
  return path


def test_which_tokenizers_count_by_words(by_kind):
  divides = {kind: tokenizer.divides for kind, tokenizer in by_kind.items()}
  assert divides == dict(byte_level=True, pieces=True, across_words=False, words=False)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS)
@pytest.mark.parametrize("kind", ["byte_level", "pieces", "across_words", "words"])
def test_texts_count_as_they_are_encoded(kind, texts, by_kind):
  tokenizer = by_kind[kind]
  expected = [len(tokenizer.encode(text)) for text in texts]
  assert tokenizer.count_texts(texts) == expected
  assert tokenizer.count_texts(texts) == expected, "remembered words count differently"


@pytest.mark.parametrize("time_prompt", ["none", "fila", "vcf"])
@pytest.mark.parametrize("template", ["chatml", "brief", "plain"])
@pytest.mark.parametrize("kind", ["byte_level", "pieces"])
def test_conversations_count_as_they_are_encoded(kind, template, time_prompt, by_kind):
  options = dict(template=template, time_prompt=time_prompt, system="You are  helpful.")
  samples = []
  expected = []
  for question, answer in CONVERSATIONS.values():
    turns = (Turn("user", (0, f"\n{question}")), Turn("assistant", (answer,)))
    sample = Sample(id="", turns=(*turns, Turn("user", (question,)), turns[1]))
    samples.append((sample, VISUALS))
    encoded = templates.encode_conversation(sample, by_kind[kind], visuals=VISUALS, **options)
    expected.append(len(encoded.tokens))
  assert templates.count_tokens(samples, by_kind[kind], **options) == expected


def test_words_beyond_the_memory_are_counted_again(by_kind, monkeypatch):
  monkeypatch.setattr(word_counter, "_REMEMBERED", 3)
  counter = word_counter.WordCounter()
  texts = ["a red circle", "a blue car", "a  green\n bus", "a red circle\n"]
  tokenizer = by_kind["byte_level"]
  expected = [len(tokenizer.encode(text)) for text in texts]
  for _ in range(2):
    for text, count in zip(texts, expected, strict=True):
      assert counter.count_by_words([text], tokenizer._count_each) == [count]


@pytest.mark.parametrize("kind", ["byte_level", "across_words"])
def test_long_texts_are_counted_in_small_batches(kind, by_kind, monkeypatch):
  monkeypatch.setattr(tokenizer_module, "_BATCH", 1000)
  tokenizer = by_kind[kind]
  sizes = []
  count_each = tokenizer._count_each

  def counted(texts):
    sizes.append(sum(map(len, texts)))
    return count_each(texts)

  monkeypatch.setattr(tokenizer, "_count_each", counted)
  texts = ["a", "The red car " * 50, "", "word " * 500, "video 12 " * 40, "new " * 40, "  "]
  expected = [len(tokenizer.encode(text)) for text in texts]
  assert tokenizer.count_texts(texts) == expected
  assert len(sizes) > 1
  assert max(sizes) <= len(texts[3]), "several long texts were encoded at once"


def test_a_word_at_the_end_of_a_text_is_not_mistaken_for_one_inside(by_kind):
  tokenizer = by_kind["byte_level"]
  tokenizer.count_texts(["a word\n"])
  text = "a word\n b"
  assert tokenizer.count_texts([text]) == [len(tokenizer.encode(text))]
