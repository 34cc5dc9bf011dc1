# SPDX-License-Identifier: Apache-2.0
"""Questions about real videos: what the model is shown, and that a talk encodes its video once."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from data_pipelines.text.templates import question
import filax
from filax.infer import encode
from filax.spec import TEXT
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 60)


def test_64_bit_numbers_of_the_user_change_no_answer(session, video):
  expected = session.ask(video, QUESTION)
  with jax.enable_x64(True):
    assert session.ask(video, QUESTION) == expected
    assert session.scenes(video)


def test_chat_equals_the_pieces_put_together(session, video):
  model, params = session
  media = session.read_video(video)
  assert clips.read_numbers(media.frames) == [int(59 * i / 23 + 1e-6) for i in range(24)]
  embed = jax.jit(lambda batch: model.apply({"params": params}, **batch, method="embed").table)
  table = embed(media.batch())
  encoded = encode.encode_video(session, media)
  prompt, index = session.processor.encode_prompt(question(QUESTION), [encoded])
  made = session.generate([prompt], table=table, visual_index=[index])
  assert session.ask(video, QUESTION) == session.processor.answer_text(made.tokens[0])


def test_the_prompt_shows_the_video_before_the_question(session, video):
  media = encode.encode_video(session, session.read_video(video))
  tokens, index = session.processor.encode_prompt(question(QUESTION), [media])
  (shown,) = np.nonzero(index != TEXT)
  layout = session.model.layout()
  assert index[shown].tolist() == [*range(2 * layout.tokens_per_group), media.tokens]  # + newline

  def decode(ids):
    return session.processor.tokenizer.decode(ids, skip_special=False)

  assert decode(tokens[: shown[0]]) == "<|im_start|>"
  assert decode(tokens[shown[-1] + 1 :]) == f"{QUESTION}<|im_end|>"


def test_a_time_prompt_tells_the_times_of_what_was_selected(session, video):
  path = video
  data = session.processor.data | dict(time_prompt="fila")
  processor = dataclasses.replace(session.processor, data=data)
  session = dataclasses.replace(session, processor=processor)
  video = session.read_video(path)
  media = encode.encode_video(session, video)
  tokens, _ = processor.encode_prompt(question(QUESTION), [media])
  # K-Means puts a scene's representative last.
  times = ", ".join(f"{t:.2f}" for t in video.times[media.groups[:, -1]])
  text = processor.tokenizer.decode(tokens)
  assert f"{QUESTION} This video samples 2 frames of a 6.00-second video at {times} sec" in text
  uniform = session.with_selector("uniform")
  video = uniform.read_video(path)
  media = encode.encode_video(uniform, video)
  assert media.text.group_times.tolist() == video.times[[1, 4]].tolist()


def test_a_talk_reads_and_encodes_once(session, video, tmp_path):
  copy = tmp_path / "b.mp4"
  os.link(video, copy)
  talk = session.conversation(copy)
  copy.unlink()  # Nothing may read it again.
  before = encode.EMBED.count
  first = talk.ask(QUESTION)
  talk.ask("And on blue?")
  assert encode.EMBED.count == before
  assert len(talk.turns) == 4 and talk.turns[1].text == first.text
  assert set(talk.seconds) == {"read", "encode"} and set(first.seconds) == {"prefill", "decode"}
  talk.forget()
  assert talk.ask(QUESTION).text == first.text
  assert first.text == session.ask(video, QUESTION)


def test_what_was_said_before_is_part_of_the_prompt(session, video):
  talk = session.conversation(video)
  lengths = [talk.ask(QUESTION, max_new_tokens=2).prompt_tokens for _ in range(3)]
  assert lengths[0] < lengths[1] < lengths[2]


def test_times_and_scenes_are_those_of_the_frames_seen(session, video):
  talk = session.conversation(video)
  assert len(talk.times) == 2 and all(len(scene) == 3 for scene in talk.scene_times)
  assert talk.times == [scene[-1] for scene in talk.scene_times]
  assert all(sorted(scene) == scene for scene in talk.scene_times)


def test_a_short_video_is_spread_over_the_scenes(session, tmp_path):
  media = session.read_video(clips.write_video(tmp_path / "one.mp4", 1))
  assert media.distinct().sum() == 1
  talk = session.conversation(media)
  assert talk.scene_times == [[0.0] * 3] * 2
  assert isinstance(talk.ask(QUESTION).text, str)
  four = session.conversation(clips.write_video(tmp_path / "four.mp4", 4))
  assert four.scene_times == pytest.approx(np.array([[0, 0, 0.1], [0.1, 0.2, 0.3]]))


def test_a_folder_of_pictures_is_a_video(session, tmp_path):
  talk = session.conversation(clips.write_picture_folder(tmp_path / "frames", 12))
  assert talk.video.duration == pytest.approx(6.0)


@pytest.mark.parametrize("name", clips.BROKEN_VIDEOS)
def test_bad_media_are_one_sentence(session, name, tmp_path):
  make, message = clips.BROKEN_VIDEOS[name]
  with pytest.raises(ValueError, match=message):
    session.ask(make(tmp_path / name), QUESTION)


def test_pictures_of_the_wrong_size_say_which_is_right(session, video):
  with pytest.raises(ValueError, match="read_video with size=42"):
    session.ask(filax.read_video(video, 24, 48), QUESTION)


def test_frames_that_are_no_whole_groups_say_how_many_would_be(session, video):
  uniform = session.with_selector("uniform")
  with pytest.raises(ValueError, match="read_video with frames=9"):
    uniform.ask(filax.read_video(video, 10, 42), QUESTION)


def test_settings_of_the_config_are_the_default(session):
  settings = session.processor.settings(temperature=None, top_k=5)
  assert settings["max_new_tokens"] == 6 and settings["temperature"] == 0.0
  assert settings["top_k"] == 5 and len(settings["stop"]) == 2
