# SPDX-License-Identifier: Apache-2.0
"""Long videos, read part by part: the same tokens as at once, kept for the next question."""

import dataclasses
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.sample import Scene
from data_pipelines.text import templates
import filax
from filax import files
from filax.configs import vcf_stage3
from filax.infer import encode, encode_long
from filax.testing import clips, interrupted, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(
    tiny_checkpoint.write_checkpoint(
      tmp_path_factory.mktemp("run"), config_file=vcf_stage3, **{"infer.sampling.frames": 40}
    )
  )


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 60)


def test_parts_equal_the_whole(session, video, monkeypatch):
  whole = encode.encode_video(session, session.read_video(video))
  before = encode.EMBED.count
  monkeypatch.setattr(encode_long, "PART", 16)  # 16, 16 and 8 frames.
  talk = session.conversation(video)
  assert encode.EMBED.count - before <= 1  # One program for all parts, if it was not there before.
  np.testing.assert_allclose(talk.media.table, whole.table, atol=1e-5)
  np.testing.assert_array_equal(talk.media.groups, whole.groups)
  np.testing.assert_array_equal(talk.media.pattern, whole.pattern)
  assert talk.media.text.tokens == whole.text.tokens == 10 * 16
  np.testing.assert_allclose(talk.times, whole.text.group_times)
  assert len(talk.scene_times) == 10 and len(talk.scene_times[0]) == 4


def test_what_was_encoded_is_kept(session, video, tmp_path, monkeypatch):
  first = session.conversation(video, tmp_path)
  (kept,) = tmp_path.iterdir()

  def no(*args):
    raise AssertionError("encoded again")

  with monkeypatch.context() as patch:
    patch.setattr(encode_long, "_encode_parts", no)
    again = session.conversation(video, tmp_path)
  assert again.ask(QUESTION).text == first.ask(QUESTION).text
  np.testing.assert_array_equal(again.media.table, first.media.table)
  kept.write_bytes(b"torn")
  np.testing.assert_array_equal(
    session.conversation(video, tmp_path).media.table, first.media.table
  )
  other = session.params | dict(
    projector={
      k: {name: jnp.asarray(x) * 2 for name, x in v.items()}
      for k, v in session.params["projector"].items()
    }
  )
  dataclasses.replace(session, params=other).conversation(video, tmp_path)
  os.utime(video, (1, 1))
  session.conversation(video, tmp_path)
  assert len(list(tmp_path.iterdir())) == 3


def test_one_bit_of_a_weight_is_another_key():
  leaf = np.random.default_rng(0).normal(size=(64, 33)).astype(np.float32)
  digests = {np.asarray(encode_long._leaf_digest(jnp.asarray(leaf))).tobytes()}
  places = range(0, leaf.size, 97)
  for place in places:
    other = leaf.copy()
    other.view(np.uint32).flat[place] ^= 1 << place % 32
    digests.add(np.asarray(encode_long._leaf_digest(jnp.asarray(other))).tobytes())
  for other in (-leaf, leaf[::-1], leaf[:, ::-1], np.roll(leaf, 1)):
    digests.add(np.asarray(encode_long._leaf_digest(jnp.asarray(other))).tobytes())
  assert len(digests) == 1 + len(places) + 4


def test_a_changed_picture_of_a_folder_is_another_key(session, tmp_path):
  folder = clips.write_picture_folder(tmp_path / "frames", 3)
  timeline = (Scene(folder),)
  key = encode_long._cache_key(session, timeline, np.zeros(4))
  assert encode_long._cache_key(session, timeline, np.zeros(4)) == key
  state = os.stat(folder)
  clips.write_picture(sorted(pathlib.Path(folder).iterdir())[1], 77)
  os.utime(folder, ns=(state.st_atime_ns, state.st_mtime_ns))
  assert encode_long._cache_key(session, timeline, np.zeros(4)) != key


@pytest.fixture
def kept(tmp_path, monkeypatch):
  """(see() from a folder, the file there, how often a video was encoded), without a model."""
  table = np.arange(12, dtype=np.float32).reshape(4, 3)
  times = np.array([0.0, 0.5, 1.25], np.float32)
  encoded = []

  def encode(*arguments):
    encoded.append(arguments)
    return jnp.asarray(table), times

  monkeypatch.setattr(encode_long, "_cache_key", lambda model, *rest: f"key-{model}")
  monkeypatch.setattr(encode_long, "_encode_parts", encode)
  monkeypatch.setattr(files, "_reported", set())

  def see(model="one", folder=tmp_path):
    before = len(encoded)
    found = encode_long._cached_tokens(folder, model, (), times)
    np.testing.assert_array_equal(found[0], table)
    np.testing.assert_array_equal(found[1], times)
    return len(encoded) - before

  assert see() == 1 and see() == 0
  return see, tmp_path / "key-one.npz"


def test_damage_to_what_was_kept_is_encoded_again(kept, capsys):
  see, path = kept
  sound = path.read_bytes()
  damaged = [b"", b"torn", b"PK", sound[:100], sound[:-1], sound + sound[-30:]]
  damaged += [sound.partition(b"\n")[2], sound[: len(sound) // 2]]  # Of before; half.
  for place in range(0, len(sound), 7):
    flipped = bytearray(sound)
    flipped[place] ^= 1 << place % 8
    damaged.append(flipped)
  for content in damaged:
    path.write_bytes(content)
    assert see() == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and str(path) in line
    assert see() == 0


def test_an_archive_that_lies_is_encoded_again(kept, capsys):
  see, path = kept
  inside = files.read_checked(path, "key-one")
  lies = [
    b"PK",
    inside[:-30],
    inside.replace(b"times", b"tames"),
    inside.replace(b"<f4", b"|O8"),
    inside.replace(b"(4, 3)", b"(4, 3 "),
    inside.replace(b"(3,)", b"(2**60"),
  ]
  for content in lies:  # Even with a right digest.
    assert content != inside
    files.write_checked(path, content, "key-one")
    assert see() == 1
    assert str(path) in capsys.readouterr().err


def test_what_another_checkpoint_saw_is_not_taken(kept, capsys):
  see, path = kept
  path.rename(path.with_name("key-two.npz"))
  assert see("two") == 1
  assert "key-two.npz" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_costs_a_line(kept, tmp_path, capsys):
  see, _ = kept
  blocked = tmp_path / "blocked"
  blocked.write_bytes(b"")
  assert see(folder=blocked) == see(folder=blocked) == 1
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and f"{blocked} cannot be written" in line


def test_leftovers_of_killed_writers_are_removed(kept):
  see, path = kept
  interrupted.kill_writer(f"write_atomically({str(path)!r})", "out.write(b'half')")
  assert see() == 0
  assert list(path.parent.iterdir()) == [path]


def test_too_many_frames_are_an_error_before_anything_is_decoded(session, video, monkeypatch):
  monkeypatch.setattr(encode_long, "_encode_parts", None)
  long = session.adjusted(frames=10_000)
  with pytest.raises(ValueError, match=r"10000 frames are 40000 visual tokens.*--yarn 2"):
    long.conversation(video)
  assert session.adjusted(yarn=4.0).model.llm.yarn == (4.0, 32_768)
  with pytest.raises(ValueError, match=r"--yarn=0\.5"):
    session.adjusted(yarn=0.5)


def test_answers_with_dropout_go_on_talking(session, video):
  talk = session.adjusted(dropout="1:uniform:0.75,2:attention:0.25").conversation(video)
  first, second = talk.ask(QUESTION), talk.ask("And on blue?")
  assert second.prompt_tokens > first.prompt_tokens
  talk.forget()
  assert talk.ask(QUESTION).text == first.text
  with pytest.raises(ValueError, match="below 3"):
    session.adjusted(dropout="uniform0_attention")


def test_the_prompt_is_that_of_the_release(session, video):
  talk = session.conversation(video)
  tokens, _ = session.processor.encode_prompt(templates.question(QUESTION), [talk.media])
  text = session.processor.tokenizer.decode(tokens, skip_special=False)
  assert f"40 frames are uniformly sampled from it. {QUESTION}" in text
