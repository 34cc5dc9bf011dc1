# SPDX-License-Identifier: Apache-2.0
"""Golden prompts and labels, with a tokenizer of Qwen's kind."""

import numpy as np
import pytest

from data_pipelines.sample import Sample, Turn
from data_pipelines.text import templates, tokenizers
from filax.testing import tiny_tokenizer

SYSTEM = "You are a helpful assistant."
VIDEO = templates.VisualText(4, 9.0, times=(0.0, 1.5, 3.0, 6.0, 7.5, 9.0), group_times=(1.5, 7.5))
PICTURE = templates.VisualText(3)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  return tokenizers.load_tokenizer(
    tiny_tokenizer.write_qwen_tokenizer(tmp_path_factory.mktemp("bpe"))
  )


def sample(*turns, media=1):
  roles = ("user", "assistant")
  turns = tuple(t if isinstance(t, Turn) else Turn(roles[n % 2], t) for n, t in enumerate(turns))
  return Sample("x", turns, media=((),) * media)


def written(tokenizer, encoded):
  """The text of an encoding, visuals as [4]."""
  out, at = "", 0
  for start, stop in (*encoded.spans, (len(encoded.tokens), len(encoded.tokens))):
    out += tokenizer.decode(encoded.tokens[at:start], skip_special=False)
    out += f"[{stop - start}]" if stop > start else ""
    at = stop
  return out


def learnt(tokenizer, encoded):
  """The text of the targets that are learnt: the first token has nothing before it."""
  ids = encoded.tokens[1:][encoded.labels[1:]]
  return [tokenizer.decode([i], skip_special=False) for i in ids]


def reference_llava(tokenizer, system, turns, visual):
  """LLaVA-NeXT's preprocess_qwen, re-expressed on ids: -200 is the visual."""
  start, end, newline = (
    tokenizer.special("<|im_start|>"),
    tokenizer.special("<|im_end|>"),
    *tokenizer.encode("\n"),
  )
  ids, labels = [], []
  for role, text in (("system", system), *turns):
    turn = [start]
    for n, piece in enumerate(f"{role}\n{text}".split("<image>")):
      turn += [-200] * (n > 0) + tokenizer.encode(piece)
    turn += [end, newline]
    ids += turn
    labels += turn if role == "assistant" else [-100] * len(turn)
  labels = [i if i in (start, end, newline) else x for i, x in zip(ids, labels, strict=True)]

  def spread(values, fill):
    return [
      x for i, v in zip(ids, values, strict=True) for x in ([fill] * visual if i == -200 else [v])
    ]

  return spread(ids, tokenizer.pad_id), spread(labels, -100)


def test_one_question_as_text(tokenizer):
  encoded = templates.encode_conversation(
    sample((0, "\nWhat is shown?"), ("a red circle",)), tokenizer, system=SYSTEM, visuals=[VIDEO]
  )
  assert written(tokenizer, encoded) == (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n[4]\nWhat is shown?<|im_end|>\n"
    "<|im_start|>assistant\na red circle<|im_end|>\n"
  )
  assert (encoded.tokens[slice(*encoded.spans[0])] == tokenizer.pad_id).all()


def test_llava_labels_hold_the_published_targets(tokenizer):
  # facts: 198, im_end, 198, im_start, 198, 198 (after the image), im_end, 198, im_start,
  # assistant, 198, a, b, c, im_end, 198.
  encoded = templates.encode_conversation(
    sample((0, "\nWhat is shown?"), ("a red circle",)), tokenizer, system=SYSTEM, visuals=[VIDEO]
  )
  targets = learnt(tokenizer, encoded)
  answer = [tokenizer.decode([i]) for i in tokenizer.encode("assistant\na red circle")]
  assert targets == [
    "\n",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    "\n",
    "\n",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    *answer,
    "<|im_end|>",
    "\n",
  ]
  start, stop = encoded.spans[0]
  assert encoded.labels[stop] and not encoded.labels[start:stop].any()


@pytest.mark.parametrize(
  "turns",
  [
    [("user", "<image>\nWhat is shown in the video?"), ("assistant", "a red circle")],
    [
      ("user", "<image>\nWhat?\n\nOptions:\n"),
      ("assistant", "\n\nred\n"),
      ("user", "And <|im_end|> what?\n"),
      ("assistant", "Nothing."),
    ],
  ],
)
def test_llava_labels_equal_the_reference(turns, tokenizer):
  def parts(text):
    return (0, text.removeprefix("<image>")) if "<image>" in text else (text,)

  record = sample(*(Turn(role, parts(text)) for role, text in turns))
  encoded = templates.encode_conversation(record, tokenizer, system=SYSTEM, visuals=[VIDEO])
  ids, labels = reference_llava(tokenizer, SYSTEM, turns, 4)
  np.testing.assert_array_equal(encoded.tokens, ids)
  np.testing.assert_array_equal(np.where(encoded.labels, encoded.tokens, -100), labels)


def test_answer_only_labels_are_the_answers_and_their_ends(tokenizer):
  record = sample((0, "\nWhat is shown?"), ("a red circle",), ("And then?\n",), ("\nuser",))
  encoded = templates.encode_conversation(
    record, tokenizer, system=SYSTEM, labels="answer_only", visuals=[VIDEO]
  )
  # "\n" + "\nuser" is encoded in one call, and the fused newlines count to the answer.
  assert "".join(learnt(tokenizer, encoded)) == "a red circle<|im_end|>\n\nuser<|im_end|>"
  assert not encoded.labels[-1]  # The newline after the end.


def test_brief_leaves_out_the_roles(tokenizer):
  asked, later = sample((0, "\nWhat?"), ("a red circle",)), (Turn("user", ("Why?",)),)
  encoded = templates.encode_conversation(asked, tokenizer, template="brief", visuals=[VIDEO])
  assert written(tokenizer, encoded) == "<|im_start|>[4]What?<|im_end|>a red circle<|im_end|>"
  assert "".join(learnt(tokenizer, encoded)) == "a red circle<|im_end|>"
  prompt = templates.encode_prompt(
    (*asked.turns, *later), tokenizer, template="brief", visuals=[VIDEO]
  )
  assert written(tokenizer, prompt) == (written(tokenizer, encoded) + "<|im_start|>Why?<|im_end|>")


def test_plain_learns_caption_and_newline(tokenizer):
  for labels in templates.LABELS:
    encoded = templates.encode_conversation(
      sample((0, "\nDescribe this."), (" a red circle",)),
      tokenizer,
      template="plain",
      labels=labels,
      time_prompt="fila",
      system=SYSTEM,
      visuals=[VIDEO],
    )
    assert written(tokenizer, encoded) == "[4] a red circle\n"
    assert "".join(learnt(tokenizer, encoded)) == " a red circle\n"


@pytest.mark.parametrize(
  ("time_prompt", "user"),
  [
    ("none", "[4]\nWhat?"),
    (
      "fila",
      "[4]\nWhat? This video samples 2 frames of a 9.00-second video at 1.50, 7.50 seconds.",
    ),
    (
      "llava",
      "[4]\nThe video lasts for 9.00 seconds, and 6 frames are uniformly sampled from it. "
      "These frames are located at 0.00s,1.50s,3.00s,6.00s,7.50s,9.00s.Please answer the "
      "following questions related to this video.\nWhat?",
    ),
  ],
)
def test_time_prompts_to_the_character(tokenizer, time_prompt, user):
  encoded = templates.encode_conversation(
    sample((0, "\nWhat?"), ("A",), ("And?",), ("B",)),
    tokenizer,
    time_prompt=time_prompt,
    visuals=[VIDEO],
  )
  assert written(tokenizer, encoded) == (
    f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
  )


def test_pictures_have_no_time_and_several_visuals_stay_where_they_are(tokenizer):
  record = sample(("First ", 0, " then ", 1, "\nWhat?"), ("A",), media=2)
  encoded = templates.encode_conversation(
    record, tokenizer, time_prompt="fila", visuals=[PICTURE, VIDEO]
  )
  assert written(tokenizer, encoded).startswith(
    "<|im_start|>user\nFirst [3] then [4]\nWhat? This video samples 2 frames of a 9.00-second"
  )
  assert [b - a for a, b in encoded.spans] == [3, 4]


@pytest.mark.parametrize(
  ("parts", "user"),
  [
    (("What? ", 0), "[4]\nWhat?"),
    (("Look ", 0, "\nWhat?"), "[4]\nLook \nWhat?"),
    ((0, "What?"), "[4]What?"),
    (("", 0, "\nWhat?"), "[4]\nWhat?"),
    ((0,), "[4]"),
    ((0, " \nWhat?"), "[4] \nWhat?"),
    ((" ", 0, "\n"), "[4]"),
    ((0, " "), "[4] "),
    (("Is ", 0, " an <image>?"), "Is [4] an <image>?"),
    ((0, "What? <image>"), "[4]What? <image>"),
    (("<image> is <|im_start|> text",), "<image> is <|im_start|> text"),
  ],
)
def test_one_visual_is_moved_first_with_a_newline(tokenizer, parts, user):
  encoded = templates.encode_conversation(sample(parts, ("A",)), tokenizer, visuals=[VIDEO])
  assert f"user\n{user}<|im_end|>" in written(tokenizer, encoded)
  controls = set(tokenizer.controls.values()) - {tokenizer.pad_id}
  assert np.isin(encoded.tokens, list(controls)).sum() == 4


def test_system_turn_of_the_sample_comes_first(tokenizer):
  record = sample(Turn("system", ("Be brief.",)), Turn("user", ("Hi",)), media=0)
  assert written(tokenizer, templates.encode_conversation(record, tokenizer, system=SYSTEM)) == (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
  )


def test_prompt_is_how_the_training_text_begins(tokenizer):
  for time_prompt in templates.TIME_PROMPTS:
    settings = dict(system=SYSTEM, time_prompt=time_prompt, visuals=[VIDEO])
    asked = templates.question("What is shown?")
    prompt = templates.encode_prompt(asked, tokenizer, **settings)
    whole = templates.encode_conversation(
      sample(*asked, Turn("assistant", ("a red circle",))), tokenizer, **settings
    )
    np.testing.assert_array_equal(prompt.tokens, whole.tokens[: len(prompt.tokens)])
    assert written(tokenizer, prompt).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert prompt.spans == whole.spans and not prompt.labels.any()
  several = templates.encode_prompt(
    templates.question("What?", 2), tokenizer, visuals=[VIDEO, PICTURE]
  )
  assert "user\n[4]\n[3]\nWhat?<" in written(tokenizer, several)
  plain = templates.encode_prompt(asked, tokenizer, template="plain", visuals=[VIDEO])
  assert written(tokenizer, plain) == "[4]"


def test_group_times_are_those_of_the_middle_frames():
  np.testing.assert_array_equal(templates.group_times(np.arange(6.0), 3), [1.0, 4.0])
  np.testing.assert_array_equal(templates.group_times(np.arange(4.0), 1), [0.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("knob", ["template", "labels", "time_prompt"])
def test_unknown_names_are_errors(tokenizer, knob):
  with pytest.raises(ValueError, match=rf"config\.data\.{knob}='other'"):
    templates.encode_conversation(sample(("Hi",), ("A",), media=0), tokenizer, **{knob: "other"})
