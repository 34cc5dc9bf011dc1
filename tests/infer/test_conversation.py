# SPDX-License-Identifier: Apache-2.0
"""Questions about real videos: what the model is shown, and that a talk encodes its video once."""

import dataclasses
import os

import clips
import jax
import numpy as np
import pytest
import small_checkpoint

from data_pipelines.text.templates import question
import filax
from filax.infer import encode as seen_lib
from filax.infer import processor as processor_lib
from filax.infer.chat import Conversation
from filax.infer.generate import generate
from filax.spec import TEXT

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  return filax.load(small_checkpoint.write(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write(tmp_path_factory.mktemp("videos") / "a.mp4", 60)


def test_chat_equals_the_pieces_put_together(loaded, video):
  model, params = loaded
  media = model.processor.read(video, model)
  assert clips.numbers(media.frames) == [int(59 * i / 23 + 1e-6) for i in range(24)]
  embed = jax.jit(lambda batch: model.apply({"params": params}, **batch, method="embed").table)
  table = embed(media.batch())
  prompt, index = model.processor.prompt(question(QUESTION), [seen_lib.see(model, params, media)])
  made = generate(
    model, params, [prompt], table=table, visual_index=[index], **model.processor.settings()
  )
  assert filax.chat(model, params, video, QUESTION) == model.processor.text(made.tokens[0])


def test_the_prompt_shows_the_video_before_the_question(loaded, video):
  model, params = loaded
  seen = seen_lib.see(model, params, model.processor.read(video, model))
  tokens, index = model.processor.prompt(question(QUESTION), [seen])
  (shown,) = np.nonzero(index != TEXT)
  layout = model.layout()
  assert index[shown].tolist() == [*range(2 * layout.tokens_per_group), seen.rows]  # + newline
  decode = lambda ids: model.processor.tokenizer.decode(ids, skip_special=False)
  assert decode(tokens[: shown[0]]) == "<|im_start|>"
  assert decode(tokens[shown[-1] + 1 :]) == f"{QUESTION}<|im_end|>"


def test_a_time_prompt_tells_the_times_of_what_was_selected(loaded, video):
  model, params = loaded
  data = model.processor.data | dict(time_prompt="fila")
  model = model.clone(processor=dataclasses.replace(model.processor, data=data))
  media = model.processor.read(video, model)
  seen = seen_lib.see(model, params, media)
  tokens, _ = model.processor.prompt(question(QUESTION), [seen])
  # K-Means puts a scene's representative last.
  times = ", ".join(f"{t:.2f}" for t in media.times[seen.groups[:, -1]])
  text = model.processor.tokenizer.decode(tokens)
  assert f"{QUESTION} This video samples 2 frames of a 6.00-second video at {times} sec" in text
  uniform = processor_lib.with_selector(model, "uniform")
  media = uniform.processor.read(video, uniform)
  seen = seen_lib.see(uniform, params, media)
  assert seen.visual.group_times.tolist() == media.times[[1, 4]].tolist()


def test_a_talk_reads_and_encodes_once(loaded, video, tmp_path):
  model, params = loaded
  copy = tmp_path / "b.mp4"
  os.link(video, copy)
  talk = Conversation(model, params, copy)
  copy.unlink()  # Nothing may read it again.
  before = seen_lib.EMBED.count
  first = talk.ask(QUESTION)
  talk.ask("And on blue?")
  assert seen_lib.EMBED.count == before
  assert len(talk.turns) == 4 and talk.turns[1].text == first.text
  assert set(talk.seconds) == {"read", "encode"} and set(first.seconds) == {"prefill", "decode"}
  talk.forget()
  assert talk.ask(QUESTION).text == first.text
  assert first.text == filax.chat(model, params, video, QUESTION)


def test_what_was_said_before_is_part_of_the_prompt(loaded, video):
  model, params = loaded
  talk = Conversation(model, params, video)
  lengths = [talk.ask(QUESTION, max_new_tokens=2).prompt_tokens for _ in range(3)]
  assert lengths[0] < lengths[1] < lengths[2]


def test_times_and_scenes_are_those_of_the_frames_seen(loaded, video):
  talk = Conversation(*loaded, video)
  assert len(talk.times) == 2 and all(len(scene) == 3 for scene in talk.scenes)
  assert talk.times == [scene[-1] for scene in talk.scenes]
  assert all(sorted(scene) == scene for scene in talk.scenes)


def test_a_short_video_is_spread_over_the_scenes(loaded, tmp_path):
  model, params = loaded
  media = model.processor.read(clips.write(tmp_path / "one.mp4", 1), model)
  assert media.distinct().sum() == 1
  talk = Conversation(model, params, media)
  assert talk.scenes == [[0.0] * 3] * 2
  assert isinstance(talk.ask(QUESTION).text, str)
  four = Conversation(model, params, clips.write(tmp_path / "four.mp4", 4))
  assert four.scenes == pytest.approx(np.array([[0, 0, 0.1], [0.1, 0.2, 0.3]]))


def test_a_folder_of_pictures_is_a_video(loaded, tmp_path):
  talk = Conversation(*loaded, clips.folder(tmp_path / "frames", 12))
  assert talk.video.duration == pytest.approx(6.0)


@pytest.mark.parametrize("name", clips.BROKEN)
def test_bad_media_are_one_sentence(loaded, name, tmp_path):
  make, message = clips.BROKEN[name]
  with pytest.raises(ValueError, match=message):
    filax.chat(*loaded, make(tmp_path / name), QUESTION)


def test_pictures_of_the_wrong_size_say_which_is_right(loaded, video):
  with pytest.raises(ValueError, match="read_video with size=42"):
    filax.chat(*loaded, filax.read_video(video, 24, 48), QUESTION)


def test_frames_that_are_no_whole_groups_say_how_many_would_be(loaded, video):
  model, params = loaded
  model = processor_lib.with_selector(model, "uniform")
  with pytest.raises(ValueError, match="read_video with frames=9"):
    filax.chat(model, params, filax.read_video(video, 10, 42), QUESTION)


def test_settings_of_the_config_are_the_default(loaded):
  settings = loaded[0].processor.settings(temperature=None, top_k=5)
  assert settings["max_new_tokens"] == 6 and settings["temperature"] == 0.0
  assert settings["top_k"] == 5 and len(settings["stop"]) == 2
