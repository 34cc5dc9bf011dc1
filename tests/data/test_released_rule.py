# SPDX-License-Identifier: Apache-2.0
"""Conversations with one placeholder a turn against the rule of the released training code."""

from hypothesis import given
from hypothesis import strategies as st
import pytest
from test_chat import VIDEO, written

from data_pipelines.manifest import llava
from data_pipelines.text import templates, tokenizers
from filax.testing import tiny_tokenizer

SENTENCE = "\nThe video lasts for 9.00 seconds, and 6 frames are uniformly sampled from it."
NOISE = "QA_GT_caption_based_noisy"
TAG = "<image>"
PIECES = st.sampled_from(["What?", "a b", "\n", " ", "\t", "\n\n", NOISE, "<|im_end|>", "\u3000"])
TEXT = st.lists(PIECES, max_size=5).map("".join)


def released(text: str, message: str) -> str:
  """A turn as the released code rewrites it, told from its description.

  Exactly one placeholder that does not begin the text: it is taken out, the rest stripped, and it
  is put before the rest with a newline; the whole is stripped. A message on time goes right behind
  every placeholder, its right end stripped, with one space after it. Then a mark of noisy answers
  is deleted.
  """
  if text.count(TAG) == 1 and text[: len(TAG)] != TAG:
    before, _, behind = text.partition(TAG)
    text = (TAG + "\n" + (before + behind).strip()).strip()
  if message.rstrip():
    text = (TAG + message.rstrip() + " ").join(text.split(TAG))
  return "".join(text.split(NOISE))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  return tokenizers.load_tokenizer(
    tiny_tokenizer.write_qwen_tokenizer(tmp_path_factory.mktemp("bpe"))
  )


def ours(tokenizer, questions, answers, time_prompt, labels, media):
  turns = []
  for question, answer in zip(questions, answers, strict=True):
    turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
  record = llava.parse_record({"conversations": turns, "video": ["a.mp4"] * media}, "m.json:1")
  return written(
    tokenizer,
    templates.encode_conversation(
      record, tokenizer, labels=labels, time_prompt=time_prompt, visuals=[VIDEO] * media
    ),
  )


def expected(questions, answers, message):
  text = ""
  for question, answer in zip(questions, answers, strict=True):
    text += f"<|im_start|>user\n{released(question, message)}<|im_end|>\n"
    text += f"<|im_start|>assistant\n{released(answer, '')}<|im_end|>\n"
  return text.replace(TAG, "[4]")


@given(before=TEXT, behind=TEXT, answer=TEXT, later=TEXT)
@pytest.mark.parametrize("labels", templates.LABELS)
@pytest.mark.parametrize(("time_prompt", "message"), [("none", ""), ("vcf", SENTENCE)])
def test_one_placeholder(time_prompt, message, labels, before, behind, answer, later, tokenizer):
  questions = [before + TAG + behind, later]
  answers = [answer + "Bars.", NOISE + " red"]
  text = ours(tokenizer, questions, answers, time_prompt, labels, 1)
  assert text == expected(questions, answers, message)


@given(texts=st.lists(TEXT, min_size=3, max_size=3))
def test_two_placeholders_stay_where_they_are(texts, tokenizer):
  questions = [TAG.join(texts)]
  assert ours(tokenizer, questions, ["Bars."], "none", "llava", 2) == (
    expected(questions, ["Bars."], "")
  )


@pytest.mark.parametrize(
  ("question", "shown"),
  [
    ("<image>What?", "[4]What?"),
    ("<image> \nWhat?", "[4] \nWhat?"),
    ("<image>\nWhat?", "[4]\nWhat?"),
    ("What? <image>", "[4]\nWhat?"),
    (" <image>", "[4]"),
    ("<image>\n", "[4]\n"),
    (f"<image>\n{NOISE} What?", "[4]\n What?"),
    (f"{NOISE}<image>", "[4]\n"),
  ],
)
def test_examples_to_the_character(question, shown, tokenizer):
  text = ours(tokenizer, [question], ["Bars."], "none", "llava", 1)
  assert text == f"<|im_start|>user\n{shown}<|im_end|>\n<|im_start|>assistant\nBars.<|im_end|>\n"


def test_a_video_tag_follows_the_same_rule(tokenizer):
  for question in ("<image>What?", "What <image>?", " <image>\n", "<image>\nWhat?"):
    tagged = question.replace("<image>", "<video>")
    assert ours(tokenizer, [tagged], ["A"], "vcf", "llava", 1) == (
      ours(tokenizer, [question], ["A"], "vcf", "llava", 1)
    )


def test_a_sentence_that_has_its_own_line_gets_it(tokenizer):
  text = ours(tokenizer, ["<image>What?"], ["A"], "llava", "llava", 1)
  assert text == ours(tokenizer, ["<image>\nWhat?"], ["A"], "llava", "llava", 1)
  assert "related to this video.\nWhat?<|im_end|>" in text


def test_text_without_media_keeps_the_mark(tokenizer):
  text = ours(tokenizer, ["Hi"], [f"{NOISE} A"], "none", "llava", 0)
  assert f"assistant\n{NOISE} A<|im_end|>" in text


def test_an_answer_of_nothing_but_the_mark_is_empty():
  turns = [{"from": "human", "value": TAG}, {"from": "gpt", "value": NOISE}]
  with pytest.raises(llava.RecordError, match="has an empty answer"):
    llava.parse_record({"conversations": turns, "video": "a.mp4"}, "m.json:1")
