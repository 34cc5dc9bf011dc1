# SPDX-License-Identifier: Apache-2.0
"""Live sessions: what arrives piece by piece is answered as if it were read at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.text import templates
import filax
from filax.configs import vcf_stage3
from filax.infer import decoding, encode, live_cache, prefix
from filax.infer.compiled import compilations
from filax.infer.live_frames import WaitingFrames
from filax.infer.live_prompt import VideoPrompt
from filax.infer.video import DecodedVideo
from filax.models.layer_cache import Cache
from filax.ops import rope
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"
TOKENS = 16 * 16  # A small cache, so that the tests are quick.
TOLERANCE = 2e-4  # Of log-probabilities; chunks of another size add float32 in another order.


def load(folder, config_file=None, **changes):
  return filax.load(tiny_checkpoint.write_checkpoint(folder, config_file=config_file, **changes))


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory):
  return load(tmp_path_factory.mktemp("clips"), vcf_stage3)


@pytest.fixture(scope="module")
def scene_model(tmp_path_factory):
  return load(tmp_path_factory.mktemp("scenes"), **{"data.time_prompt": "fila"})


def drawn(count, size):
  frames = np.stack([clips.draw_number(7 * i, size, size) for i in range(count)])
  return frames, np.arange(count, dtype=np.float32)


def live_logprobs(live, question=QUESTION):
  """(ids, log-probabilities) of an answer."""
  ids = []
  logprobs = []
  for chunk in live.stream(question)._chunks:
    ids += chunk.ids[0]
    logprobs += chunk.logprobs[0]
  return ids, logprobs


def whole_logprobs(session, frames, times, question=QUESTION):
  """(ids, log-probabilities) after the whole video is read at once, without visual dropout."""
  plain = session.adjusted(dropout="off")
  if plain.model.selector.needs_single:
    plain = plain.with_selector("uniform")
  media = encode.encode_video(plain, DecodedVideo(frames, times, float(times[-1])))
  turns = templates.question(question, 1)
  prompt, index = plain.processor.encode_prompt(turns, [media])
  done = plain.generate([prompt], table=media.table[None], visual_index=[index])
  return done.tokens[0], done.logprobs[0]


@pytest.mark.parametrize("name", ["clip_model", "scene_model"])
def test_pieces_equal_the_whole(name, request):
  session = request.getfixturevalue(name)
  frames, times = drawn(48, session.model.encoder.size)
  live = session.live(tokens=TOKENS)
  for start, stop in ((0, 5), (5, 6), (6, 40), (40, 48)):
    live.append(frames[start:stop], times[start:stop])
  ids, logprobs = live_logprobs(live)
  expected_ids, expected = whole_logprobs(session, frames, times)
  assert ids == expected_ids
  np.testing.assert_allclose(logprobs, expected, atol=TOLERANCE)
  _, other = whole_logprobs(session, frames[::-1].copy(), times)
  assert np.abs(np.asarray(other) - expected).max() > 10 * TOLERANCE  # The video matters.


def test_questions_leave_the_video_untouched(clip_model):
  frames, times = drawn(24, clip_model.model.encoder.size)
  live = clip_model.live(tokens=TOKENS)
  live.append(frames[:12], times[:12])
  first = live_logprobs(live)
  live_logprobs(live, "What colour is on blue? " * 4)
  assert live_logprobs(live) == first
  live.append(frames[12:], times[12:])
  ids, logprobs = live_logprobs(live)
  expected_ids, expected = whole_logprobs(clip_model, frames, times)
  assert ids == expected_ids
  np.testing.assert_allclose(logprobs, expected, atol=TOLERANCE)


def test_no_append_and_no_question_compiles_anew(clip_model):
  programs = (
    encode.EMBED,
    prefix.READ,
    prefix.ASK,
    decoding.START,
    decoding.DECODE,
    live_cache.KEEP,
    live_cache.ATTENDED,
  )
  frames, times = drawn(4, clip_model.model.encoder.size)
  live = clip_model.live(tokens=16 * 6, drop="attended")

  def watch(rounds, first):
    for number in range(first, first + rounds):
      live.append(frames, times + 4 * number)
      live.ask(QUESTION)

  watch(8, 0)  # Includes drops.
  before = compilations(programs)
  watch(16, 8)
  assert compilations(programs) == before
  assert live.status.tokens <= 16 * 6 and live.status.dropped >= 16


def test_dropped_groups_are_forgotten(clip_model):
  """What stays lies at the positions of a video that never had the dropped groups.

  Keys of the first layer depend on no other token, so they are those of that video.
  """
  frames, times = drawn(32, clip_model.model.encoder.size)
  live = clip_model.live(tokens=16 * 4)
  live.append(frames, times)
  status = live.status
  assert status.frames == 32 and status.groups + status.dropped == 8
  assert status.oldest == times[4 * status.dropped]
  index = np.arange(live._cache.length)
  cache = live._cache._cache
  assert cache.slots == live.budget.slots
  fresh = clip_model.live(tokens=16 * 4)
  kept = slice(4 * status.dropped, None)
  fresh.append(frames[kept], times[kept])
  ours = first_layer(cache.k)[:, index]
  np.testing.assert_allclose(ours, first_layer(fresh._cache._cache.k)[:, index], atol=1e-4)


def first_layer(keys):
  """Keys of the first layer [K S d], which depend on no other token."""
  return np.asarray(keys[0]).reshape(-1, *keys[0].shape[-2:])


@pytest.mark.parametrize("apart", [True, False])
def test_kept_keys_turn_to_their_new_positions(apart, clip_model):
  llm = clip_model.model.llm
  slots = 12
  rng = np.random.default_rng(0)
  plain = jnp.asarray(rng.normal(size=(1, slots, llm.kv_heads, llm.head_dim)), jnp.float32)
  inverse, _ = llm.frequencies()

  def keys_at(positions, x):
    return jnp.swapaxes(rope.rotate(x, *rope.angles(positions[None], inverse)), 1, 2)

  whole = keys_at(jnp.arange(slots), plain)
  kept = np.array([0, 1, 5, 6, 11])
  expected = keys_at(jnp.arange(len(kept)), plain[:, kept])
  stacked = jnp.stack([whole] * llm.depth)
  layers = tuple(x[0] for x in stacked) if apart else stacked
  index = np.arange(slots, dtype=np.int32)
  index[: len(kept)] = kept
  cache = live_cache.kept_slots(clip_model.model, Cache(layers, layers, jnp.zeros(1)), index)
  for layer in range(llm.depth):
    got = np.asarray(cache.k[layer]).reshape(expected[0].shape[0], slots, -1)[:, : len(kept)]
    np.testing.assert_allclose(got, expected[0], atol=1e-5)
    values = np.asarray(cache.v[layer]).reshape(-1, slots, llm.head_dim)
    np.testing.assert_array_equal(values[:, : len(kept)], np.asarray(whole[0])[:, kept])


def test_attention_is_that_of_the_whole_prompt(clip_model):
  """The reference is VideoLM.attention_from over the whole prompt."""
  frames, times = drawn(16, clip_model.model.encoder.size)
  live = clip_model.live(tokens=TOKENS, drop="attended")
  live.append(frames, times)
  question = live._prompt.question_tokens(QUESTION, live._times, 15.0)
  scores = live._cache.attention(question, live._newline)[: live._cache.length]
  plain = live.loaded
  media = encode.encode_video(plain, DecodedVideo(frames, times, 15.0))
  prompt, index = plain.processor.encode_prompt(templates.question(QUESTION, 1), [media])
  by_layer = plain.model.apply(
    {"params": plain.params},
    jnp.asarray([prompt]),
    media.table[None],
    jnp.asarray([index]),
    jnp.asarray([[len(prompt) - 1]]),
    method="attention_from",
  )
  middle = np.asarray(by_layer)[plain.model.llm.depth // 2, 0, : len(scores)]
  np.testing.assert_allclose(scores, middle, atol=1e-5)


def test_the_least_attended_groups_go(clip_model, monkeypatch):
  frames, times = drawn(4, clip_model.model.encoder.size)
  live = clip_model.live(tokens=16 * 8, drop="attended")

  def liked(question, table):
    scores = np.ones(live._cache.slots, np.float32)
    head = len(live._prompt.head.tokens)
    scores[head : head + 16] = 5  # The first group.
    return scores

  monkeypatch.setattr(live._cache, "attention", liked)
  for number in range(30):
    live.append(frames, times + 4 * number)
  held = [int(group[0]) // 4 for group in live._times]
  assert held[0] == 0 and held[-1] == 29 and held == sorted(held)
  assert live.status.tokens <= 16 * 8


def test_times_of_weeks_are_exact_and_have_places(scene_model):
  frames, times = drawn(3, scene_model.model.encoder.size)
  times = 9_000_000.01 + times.astype(np.float64) / 10
  waiting = WaitingFrames(scene_model.model.encoder.size, "squash")
  waiting.add_frames(frames, times)
  _, seconds = waiting.take_frames(3)
  np.testing.assert_array_equal(seconds, times)
  prompt = VideoPrompt(scene_model.with_selector("uniform"))
  question = prompt.question_tokens("", [seconds] * 5, seconds[-1])
  assert len(question.tokens) <= prompt.longest_question(5)


def test_frames_wait_while_an_answer_is_open(clip_model):
  frames, times = drawn(8, clip_model.model.encoder.size)
  live = clip_model.live(tokens=TOKENS)
  live.append(frames[:4], times[:4])
  chunks = iter(live.stream(QUESTION)._chunks)
  next(chunks)
  live.append(frames[4:], times[4:])
  assert live.status.waiting == 4
  with pytest.raises(RuntimeError, match="Another answer is open"):
    live.ask(QUESTION)
  list(chunks)
  live.ask(QUESTION)
  assert live.status.waiting == 0 and live.status.frames == 8


def test_a_cancelled_or_forgotten_answer_is_over(clip_model):
  frames, times = drawn(4, clip_model.model.encoder.size)
  live = clip_model.live(tokens=TOKENS)
  live.append(frames, times)
  expected = live.ask(QUESTION).text
  cancelled = iter(live.stream(QUESTION)._chunks)
  next(cancelled)
  live.cancel_answer()
  with pytest.raises(RuntimeError, match="cancelled"):
    next(cancelled)
  for _ in live.stream(QUESTION):
    break
  assert live.ask(QUESTION).text == expected


def test_closing_an_answer_that_is_over_leaves_the_next_one(clip_model):
  frames, times = drawn(4, clip_model.model.encoder.size)
  live = clip_model.live(tokens=TOKENS)
  live.append(frames, times)
  earlier = live.stream(QUESTION)
  expected = list(earlier)
  later = live.stream(QUESTION)
  earlier.close()
  assert list(later) == expected


def test_frames_of_any_size_are_seen(clip_model):
  live = clip_model.live(tokens=TOKENS)
  live.append(np.zeros((4, 30, 50, 3), np.uint8), range(4))
  assert live.status.frames == 4


@pytest.mark.parametrize(
  "frames, times, reason",
  [
    (np.zeros((2, 8, 8, 3)), [0, 1], "uint8"),
    (np.zeros((2, 8, 8, 4), np.uint8), [0, 1], "shape"),
    (np.zeros((2, 8, 8, 3), np.uint8), [0], "as many times"),
    (np.zeros((2, 8, 8, 3), np.uint8), [1, 0], "never fall"),
    (np.zeros((2, 8, 8, 3), np.uint8), [0, np.nan], "finite"),
    (np.zeros((1, 8, 8, 3), np.uint8), [2], "order of time"),
  ],
)
def test_bad_frames_change_nothing(frames, times, reason, clip_model):
  live = clip_model.live(tokens=TOKENS)
  live.append(np.zeros((1, 8, 8, 3), np.uint8), [5])
  with pytest.raises(ValueError, match=reason):
    live.append(frames, times)
  assert live.status.waiting == 1


def test_bad_settings_are_named(clip_model):
  with pytest.raises(ValueError, match="drop='newest'"):
    clip_model.live(drop="newest")
  with pytest.raises(ValueError, match=r"tokens=3 .* holds no clip"):
    clip_model.live(tokens=3)
  with pytest.raises(ValueError, match=r"Set tokens to [0-9]+ or less"):
    clip_model.live(tokens=10**9)
  with pytest.raises(ValueError, match="not of both"):
    clip_model.live(tokens=64, memory=10**9)
  live = clip_model.live(tokens=TOKENS)
  with pytest.raises(ValueError, match="Nothing was seen yet: a clip is 4 frames, and 0"):
    live.ask(QUESTION)
  live.append(np.zeros((4, 8, 8, 3), np.uint8), range(4))
  with pytest.raises(ValueError, match=r"exceed the [0-9]+ places"):
    live.ask(QUESTION, max_new_tokens=100_000)


def test_memory_bounds_the_cache(clip_model):
  memory = 1_000_000
  live = clip_model.live(memory=memory)
  cache = live._cache._cache
  assert sum(x.nbytes for x in jax.tree.leaves((cache.k, cache.v))) <= memory
  live.append(*drawn(4, clip_model.model.encoder.size))
  assert live.ask(QUESTION).prompt_tokens > 16


def test_a_model_of_scenes_reads_groups_in_order(scene_model):
  assert scene_model.live().selector == "uniform"
