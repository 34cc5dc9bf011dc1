# SPDX-License-Identifier: Apache-2.0
"""Long videos, read part by part: the same tokens as at once, kept for the next question."""

import os

import clips
import jax.numpy as jnp
import numpy as np
import pytest
import small_checkpoint

from configs import vcf_stage3
import filax
from filax.infer import programs, streaming
from filax.infer import seen as seen_lib
from filax.infer.chat import Conversation
from filax.infer.processor import adjusted

QUESTION = "What shape is on red?"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  return filax.load(small_checkpoint.write(
    tmp_path_factory.mktemp("run"), made=vcf_stage3, **{"infer.sampling.frames": 40}))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write(tmp_path_factory.mktemp("videos") / "a.mp4", 60)


def encoded():
  return next(p for p in programs.ALL if p.name == "encoder").count


def test_parts_equal_the_whole(loaded, video, monkeypatch):
  model, params = loaded
  whole = seen_lib.see(model, params, model.processor.read(video, model))
  before = encoded()
  monkeypatch.setattr(streaming, "PART", 16)  # 16, 16 and 8 frames.
  talk = Conversation(model, params, video)
  assert encoded() - before <= 1  # One program for all parts, if it was not there before.
  np.testing.assert_allclose(talk.seen.table, whole.table, atol=1e-5)
  np.testing.assert_array_equal(talk.seen.groups, whole.groups)
  np.testing.assert_array_equal(talk.seen.pattern, whole.pattern)
  assert talk.seen.visual.tokens == whole.visual.tokens == 10 * 16
  np.testing.assert_allclose(talk.times, whole.visual.group_times)
  assert len(talk.scenes) == 10 and len(talk.scenes[0]) == 4


def test_what_was_encoded_is_kept(loaded, video, tmp_path, monkeypatch):
  model, params = loaded
  first = Conversation(model, params, video, tmp_path)
  (kept,) = tmp_path.iterdir()

  def no(*args):
    raise AssertionError("encoded again")

  with monkeypatch.context() as patch:
    patch.setattr(streaming, "_encode", no)
    again = Conversation(model, params, video, tmp_path)
  assert again.ask(QUESTION).text == first.ask(QUESTION).text
  np.testing.assert_array_equal(again.seen.table, first.seen.table)
  kept.write_bytes(b"torn")
  np.testing.assert_array_equal(
    Conversation(model, params, video, tmp_path).seen.table, first.seen.table)
  other = params | dict(projector={
    k: {name: jnp.asarray(x) * 2 for name, x in v.items()}
    for k, v in params["projector"].items()})
  Conversation(model, other, video, tmp_path)
  os.utime(video, (1, 1))
  Conversation(model, params, video, tmp_path)
  assert len(list(tmp_path.iterdir())) == 3


def test_too_many_frames_are_an_error_before_anything_is_decoded(loaded, video, monkeypatch):
  model, params = loaded
  monkeypatch.setattr(streaming, "_encode", None)
  long = adjusted(model, frames=10_000)
  with pytest.raises(ValueError, match=r"10000 frames are 40000 visual tokens.*--yarn 2"):
    Conversation(long, params, video)
  assert adjusted(model, yarn=4.0).llm.yarn == (4.0, 32_768)
  with pytest.raises(ValueError, match=r"--yarn=0\.5"):
    adjusted(model, yarn=0.5)


def test_answers_with_dropout_go_on_talking(loaded, video):
  model, params = loaded
  talk = Conversation(adjusted(model, dropout="1:uniform:0.75,2:attention:0.25"), params, video)
  first, second = talk.ask(QUESTION), talk.ask("And on blue?")
  assert second.prompt_tokens > first.prompt_tokens
  talk.forget()
  assert talk.ask(QUESTION).text == first.text
  with pytest.raises(ValueError, match="below 3"):
    adjusted(model, dropout="uniform0_attention")


def test_the_prompt_is_that_of_the_release(loaded, video):
  model, params = loaded
  talk = Conversation(model, params, video)
  tokens, _ = model.processor.prompt(filax.infer.chat.chat_lib.question(QUESTION), [talk.seen])
  text = model.processor.tokenizer.decode(tokens, skip_special=False)
  assert f"40 frames are uniformly sampled from it. {QUESTION}" in text
