# SPDX-License-Identifier: Apache-2.0
"""Settings of answers: penalties, several answers of one prompt, stop strings, cancelling."""

import numpy as np
import pytest

import filax
from filax.infer import decoding
from filax.infer import generate as generate_lib
from filax.infer.generate import generate, stream
from filax.models.components import build_video_lm
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

LENGTHS = (16, 32)
CHANGES = {"model.llm.vocab": 120}
DRAWN = dict(temperature=1.5, top_p=0.9, seed=4, max_new_tokens=20, lengths=LENGTHS)


@pytest.fixture(scope="module")
def model():
  return build_video_lm(tiny_checkpoint.tiny_config(**CHANGES)["model"])


@pytest.fixture(scope="module")
def params():
  return tiny_checkpoint.tiny_parameters(tiny_checkpoint.tiny_config(**CHANGES), seed=3)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run")))


def prompts(*lengths):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 120, length).tolist() for length in lengths]


def penalised_greedy(model, params, prompt, penalty, count):
  """Greedy tokens with a repetition penalty, one prefill a token, in NumPy."""
  ids = list(prompt)
  chosen = []
  for _ in range(count):
    padded = generate_lib.pad_prompts(model, [ids], None, (64,))
    llm = generate_lib.language_model(model)
    logits, _ = generate_lib.prefilled(llm, params, padded, None, 16)
    scores = np.asarray(logits[0], np.float64)
    seen = np.unique(ids)
    scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    chosen.append(int(scores.argmax()))
    ids.append(chosen[-1])
  return chosen


@pytest.mark.parametrize("steps", [1, 8])
def test_the_penalty_counts_prompt_and_answer(model, params, steps):
  (prompt,) = prompts(9)
  settings = dict(max_new_tokens=12, lengths=LENGTHS, steps=steps, repetition_penalty=1.4)
  generated = generate(model, params, [prompt], **settings)
  assert generated.tokens[0] == penalised_greedy(model, params, prompt, 1.4, 12)


@pytest.mark.parametrize("settings", [DRAWN, DRAWN | dict(min_p=0.05, repetition_penalty=1.2)])
def test_several_answers_equal_those_of_repeated_prompts(model, params, settings):
  first, second = prompts(9, 14)
  together = generate(model, params, [first, second], answers=3, **settings)
  apart = generate(model, params, [first] * 3 + [second] * 3, **settings)
  assert together.tokens == apart.tokens
  assert len({tuple(ids) for ids in together.tokens}) == 6


@pytest.mark.parametrize("top_k", [121, 10**10, 10**40])
def test_a_top_k_above_the_vocabulary_keeps_all(model, top_k):
  assert decoding.sampling_settings(model, top_k=top_k).top_k == 120


def test_several_answers_are_prefilled_once(model, params, monkeypatch):
  rows = []
  real = generate_lib.PREFILL

  def counted(label, *args, **options):
    rows.append(args[2].shape[0])
    return real(label, *args, **options)

  monkeypatch.setattr(generate_lib, "PREFILL", counted)
  generate(model, params, prompts(9), answers=4, **DRAWN)
  assert rows == [1]


@pytest.mark.parametrize(
  "settings, message",
  [
    (dict(min_p=1.5), "min_p=1.5"),
    (dict(repetition_penalty=0.0), "repetition_penalty=0.0"),
    (dict(repetition_penalty=float("nan")), "repetition_penalty=nan"),
    (dict(answers=0), "answers=0 cannot be used. Set it to a whole number from 1 to 128"),
    (dict(answers=129), "answers=129 cannot be used. Set it to a whole number from 1 to 128"),
    (dict(temperature=float("inf")), "temperature=inf"),
    (dict(temperature="1"), "temperature='1'"),
    (dict(max_new_tokens=2.5), "max_new_tokens=2.5"),
    (dict(max_new_tokens=True), "max_new_tokens=True"),
    (dict(top_k=1.5), "top_k=1.5"),
    (dict(seed=2**63), f"seed={2**63}"),
    (dict(seed=None), "seed=None"),
  ],
)
def test_a_setting_that_does_not_fit_is_named(model, params, settings, message):
  with pytest.raises(ValueError, match=message):
    stream(model, params, prompts(3), lengths=LENGTHS, **settings)


@pytest.mark.parametrize("token", [-1, 120, 10**9])
def test_a_token_that_the_model_lacks_is_named(model, params, token):
  with pytest.raises(ValueError, match=f"has the token {token}, but the ids .* are 0 to 119"):
    stream(model, params, [[3, 5], [7, token]], lengths=LENGTHS)


def test_no_stop_strings_are_none(session):
  whole = session.ask(None, "What?", max_new_tokens=4)
  assert session.ask(None, "What?", max_new_tokens=4, stop_strings=None) == whole


@pytest.mark.parametrize("question", [None, 0, ["What?", "Who?"]])
def test_a_question_is_a_text(session, question):
  talk = session.conversation(None)
  for _ in range(2):  # The first question, and a later one.
    with pytest.raises(TypeError, match="A question is a text"):
      talk.ask(question, max_new_tokens=4)
    talk.ask("What?", max_new_tokens=4)


def test_a_stop_string_ends_the_answer_of_a_session(session):
  options = dict(max_new_tokens=24, temperature=2.0, seed=3)
  talk = session.conversation(None)
  whole = talk.ask("What?", **options)
  stop = whole.text[5:8]
  talk.forget()
  cut = talk.ask("What?", stop_strings=[stop], **options)
  assert cut.text == whole.text[: whole.text.index(stop)].rstrip()
  assert cut.stopped
  assert cut.tokens <= whole.tokens


def test_several_answers_of_a_conversation(session):
  options = dict(max_new_tokens=8, temperature=2.0, seed=3)
  talk = session.conversation(None)
  several = talk.ask_several("What?", 3, **options)
  talk.forget()
  assert talk.ask("What?", **options).text == several[0].text
  assert len({answer.text for answer in several}) == 3


def test_streamed_pieces_arrive_before_the_answer_is_complete(session):
  streamed = session.stream(None, "What?", max_new_tokens=64, temperature=2.0, seed=1)
  pieces = iter(streamed)
  next(pieces)
  with pytest.raises(RuntimeError, match="not complete"):
    _ = streamed.answer
  for _ in pieces:
    pass
  assert streamed.answer.tokens > 8
