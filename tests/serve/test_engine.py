# SPDX-License-Identifier: Apache-2.0
"""The engine: answers as a session gives them, alone or among others, and bounds on everything."""

import dataclasses
import threading
import time

import pytest
from requests_of_tests import QUESTION, ask, whole_text

import filax
from filax.infer import encode
from filax.infer.loaded import LoadedModel
from filax.serve.engine import Engine
from filax.serve.feature_cache import FeatureCache
from filax.serve.limits import ServingLimits, with_changes
from filax.serve.media_reading import RequestMedia
from filax.serve.preparation import encode_medium
from filax.serve.requests import (
  VIDEO,
  AnswerRequest,
  ChatMessage,
  FrameSettings,
  Medium,
  RequestError,
)
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

LIMITS = ServingLimits(batch=4, waiting=32)
SAMPLED = dict(temperature=1.3, top_p=0.9, max_new_tokens=20)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  return [clips.write_video(folder / f"{n}.mp4", 40 + 10 * n, first=n) for n in range(3)]


@pytest.fixture(scope="module")
def engine(session):
  engine = Engine(session, LIMITS)
  yield engine
  engine.close(5)


def refused(engine, request):
  """The error of a request, from submit or from its pieces."""
  with pytest.raises(RequestError) as caught:
    for _ in engine.submit(request):
      pass
  return caught.value


def test_an_answer_is_that_of_the_session(engine, session, videos):
  handle = engine.submit(ask(video=videos[0], max_new_tokens=12))
  assert whole_text(handle) == session.ask(videos[0], QUESTION, max_new_tokens=12)
  usage = handle.usage
  (video,) = usage.videos
  assert video.candidates == 24 and video.frames == 6
  assert (video.start, video.end, video.duration) == (0.0, 4.0, 4.0)
  assert usage.prompt_tokens > usage.visual_tokens == video.visual_tokens > 0
  assert set(usage.seconds) == {"queue", "read", "encode", "prefill", "decode"}


def test_a_sampled_answer_is_that_of_the_session(engine, session):
  options = SAMPLED | dict(min_p=0.02, repetition_penalty=1.2)
  text = whole_text(engine.submit(ask(seed=7, **options)))
  assert text == session.ask(None, QUESTION, seed=7, **options)


def test_answers_do_not_depend_on_the_others(engine, videos):
  requests = [
    ask(seed=1, **SAMPLED),
    ask(max_new_tokens=9),
    ask(video=videos[0], max_new_tokens=20),
    ask("And on blue?", video=videos[1], seed=2, **SAMPLED),
    ask(seed=3, repetition_penalty=1.3, **SAMPLED),
    ask("Which colour?", seed=4, temperature=0.7, max_new_tokens=17),
    ask(seed=1, answers=3, **SAMPLED),
  ]
  alone = [whole_text(engine.submit(request)) for request in requests]
  handles = [engine.submit(request) for request in requests * 2]
  texts = [whole_text(handle) for handle in handles]
  assert texts == alone * 2


def test_a_fixed_batch_gives_equal_bits_among_others(session, monkeypatch):
  engine = Engine(session, LIMITS, fixed_batch=True)
  logprobs = {}
  decode = engine._lanes.decode

  def recorded(shape):
    owners, chunk = decode(shape)
    for owner, values in zip(owners, chunk.logprobs, strict=True):
      if owner is not None:
        logprobs.setdefault(owner.job.handle, []).extend(values)
    return owners, chunk

  monkeypatch.setattr(engine._lanes, "decode", recorded)
  alone = engine.submit(ask(seed=1, **SAMPLED))
  whole_text(alone)
  others = [engine.submit(ask(seed=seed, **SAMPLED)) for seed in (2, 3)]
  among = engine.submit(ask(seed=1, **SAMPLED))
  for handle in (*others, among):
    whole_text(handle)
  engine.close(5)
  assert logprobs[among] == logprobs[alone] != logprobs[others[0]]


def test_a_lane_gets_smaller_when_few_answers_are_left(session, monkeypatch):
  engine = Engine(session, with_changes(LIMITS, ["batch=8"]))
  rows = []
  least_probable = []
  decode = engine._lanes.decode

  def recorded(shape):
    owners, chunk = decode(shape)
    rows.append(len(owners))
    least_probable.append(engine._lanes._lanes[shape]._settings["top_p"].min())
    return owners, chunk

  monkeypatch.setattr(engine._lanes, "decode", recorded)
  settings = dict(temperature=1.5, repetition_penalty=1.1, max_new_tokens=250)
  handles = [engine.submit(ask(seed=seed, **settings)) for seed in (1, 2, 3, 4, 9)]
  for handle in handles[:-1]:
    next(iter(handle))
  for handle in handles[:-1]:
    handle.cancel()
  text = whole_text(handles[-1])
  engine.close(5)
  assert max(rows) == 8 and rows[-1] == 2
  assert min(least_probable) == 1  # Rows without an answer ask for no cut, which would sort all.
  assert text == session.ask(None, QUESTION, seed=9, **settings)


def test_several_answers_of_one_prompt(engine, session):
  handle = engine.submit(ask(seed=5, answers=3, **SAMPLED))
  texts = {}
  reasons = {}
  for piece in handle:
    texts[piece.index] = texts.get(piece.index, "") + piece.text
    reasons[piece.index] = piece.finish_reason or reasons.get(piece.index)
  several = session.conversation(None).ask_several(QUESTION, 3, seed=5, **SAMPLED)
  assert [texts[index] for index in range(3)] == [answer.text for answer in several]
  assert set(reasons.values()) <= {"stop", "length"}


def test_a_stop_string_ends_an_answer(engine):
  whole = whole_text(engine.submit(ask(seed=1, **SAMPLED)))
  stop = whole[4:7]
  handle = engine.submit(ask(seed=1, stop_strings=(stop,), **SAMPLED))
  pieces = list(handle)
  assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)].rstrip()
  assert pieces[-1].finish_reason == "stop"


def test_a_video_is_encoded_once(session, videos, monkeypatch):
  engine = Engine(session, LIMITS)
  encoded = []
  real = encode.EMBED
  monkeypatch.setattr(encode, "EMBED", lambda *args: encoded.append(args) or real(*args))
  handles = [engine.submit(ask(f"{n}?", videos[0], max_new_tokens=4)) for n in range(5)]
  for handle in handles:
    whole_text(handle)
  assert len(encoded) == 1
  assert [handle.usage.videos[0].cached for handle in handles].count(True) == 4
  again = engine.submit(ask("Once more?", videos[0], max_new_tokens=4))
  whole_text(again)
  assert again.usage.videos[0].cached and len(encoded) == 1
  engine.close(5)


def test_a_cache_without_room_keeps_nothing(session, videos):
  engine = Engine(session, with_changes(LIMITS, ["cache_bytes=10"]))
  for _ in range(2):
    handle = engine.submit(ask(video=videos[0], max_new_tokens=2))
    whole_text(handle)
    assert not handle.usage.videos[0].cached
  assert engine.cache.bytes == 0
  engine.close(5)


def test_the_folder_of_chat_holds_what_the_engine_encoded(session, videos, tmp_path, monkeypatch):
  uniform = session.with_selector("uniform")
  first = Engine(uniform, LIMITS, encode_cache=str(tmp_path))
  text = whole_text(first.submit(ask(video=videos[0], max_new_tokens=6)))
  first.close(5)
  monkeypatch.setattr("filax.infer.encode_long._encode_parts", None)
  talk = uniform.conversation(videos[0], tmp_path)
  assert talk.ask(QUESTION, max_new_tokens=6).text == text
  second = Engine(uniform, LIMITS, encode_cache=str(tmp_path))
  handle = second.submit(ask(video=videos[0], max_new_tokens=6))
  assert whole_text(handle) == text and handle.usage.videos[0].cached
  second.close(5)


def test_a_part_from_the_folder_lasts_as_long_as_the_part(session, videos, tmp_path):
  uniform = session.with_selector("uniform")
  medium = Medium(VIDEO, (str(videos[1]),), FrameSettings(start=1.0, end=3.0))

  def read_and_keep(medium):
    cache = FeatureCache(1 << 20)
    media = RequestMedia(LIMITS, cache, str(tmp_path))
    read = media.read_medium(uniform, medium, True)
    encoded, cached = encode_medium(uniform, read, cache)
    media.keep_in_folder(uniform, read, encoded)
    return encoded.text.duration, cached

  passing = dataclasses.replace(medium, is_lasting=False)
  assert [read_and_keep(passing) for _ in range(2)] == [(2.0, False)] * 2
  assert not list(tmp_path.iterdir())
  assert read_and_keep(medium) == (2.0, False)
  assert read_and_keep(medium) == (2.0, True)


def test_frames_and_part_of_a_video(engine, videos):
  settings = FrameSettings(fps=6.0, start=1.0, end=3.0)
  handle = engine.submit(ask(video=videos[1], frames=settings, max_new_tokens=2))
  whole_text(handle)
  (video,) = handle.usage.videos
  assert (video.start, video.end, video.duration) == (1.0, 3.0, 5.0)
  assert video.candidates == 12 and video.fps == 6.0
  assert all(1.0 <= second < 3.0 for second in video.times)


def test_a_client_that_leaves_costs_at_most_two_chunks(engine):
  handle = engine.submit(ask(temperature=1.5, seed=9, max_new_tokens=2000))
  pieces = iter(handle)
  next(pieces)
  before = engine.counters.sum_of("filax_chunks_total")
  handle.cancel()
  for _ in pieces:
    pass
  deadline = time.monotonic() + 60
  while engine.gauges()["filax_running"] and time.monotonic() < deadline:
    time.sleep(0.02)
  assert engine.counters.sum_of("filax_chunks_total") - before <= 2
  assert engine.gauges()["filax_running"] == 0


def test_the_first_piece_comes_before_the_last_token(engine):
  handle = engine.submit(ask(temperature=1.5, seed=9, max_new_tokens=200))
  pieces = iter(handle)
  next(pieces)
  assert not handle.ended
  handle.cancel()


def test_a_read_that_hangs_ends_its_request_alone(session, videos, monkeypatch):
  limits = with_changes(LIMITS, ["decode_seconds=1"])
  engine = Engine(session, limits, readers=1)
  whole_text(engine.submit(ask(video=videos[1], max_new_tokens=2)))
  reached = threading.Event()
  release = threading.Event()

  def hang(*args):
    reached.set()
    release.wait(20)

  with monkeypatch.context() as patch:
    patch.setattr("filax.infer.video.decode_extent", hang)
    hanging = engine.submit(ask(video=videos[2], max_new_tokens=2))
    assert reached.wait(60)
  start = time.monotonic()
  assert whole_text(engine.submit(ask(video=videos[1], max_new_tokens=2))) is not None
  with pytest.raises(RequestError, match="took more than") as caught:
    list(hanging)
  assert caught.value.status == 504 and time.monotonic() - start < 10
  release.set()
  engine.close(5)


@pytest.mark.parametrize(
  "limit, request_of, code",
  [
    ("video_seconds=1", lambda video: ask(video=video), "video_too_long"),
    ("pixels=100", lambda video: ask(video=video), "too_many_pixels"),
    (
      "frames=12",
      lambda video: ask(video=video, frames=FrameSettings(frames=13)),
      "too_many_frames",
    ),
    ("answer_tokens=8", lambda video: ask(max_new_tokens=9), "invalid_value"),
    ("answers=2", lambda video: ask(answers=3), "invalid_value"),
  ],
)
def test_a_limit_that_is_passed_is_named(session, videos, limit, request_of, code):
  engine = Engine(session, with_changes(LIMITS, [limit]))
  error = refused(engine, request_of(videos[0]))
  assert error.code == code and limit.partition("=")[0] in str(error)
  assert "/" not in str(error)
  engine.close(5)


def test_a_full_queue_is_an_error(session):
  engine = Engine(session, with_changes(LIMITS, ["waiting=1"]))
  first = engine.submit(ask(temperature=1.5, max_new_tokens=500))
  assert refused(engine, ask()).status == 429
  first.cancel()
  engine.close(5)


def test_who_waits_too_long_is_told(session, monkeypatch):
  engine = Engine(session, with_changes(LIMITS, ["waiting_seconds=0.2", "batch=1"]))
  slow = engine.on_device(time.sleep, 0.6)
  error = refused(engine, ask(max_new_tokens=2))
  assert (error.status, error.code) == (503, "queue_timeout")
  slow.result()
  engine.close(5)


def test_a_damaged_video_is_one_sentence_without_a_path(engine, tmp_path):
  broken = tmp_path / "broken.mp4"
  broken.write_bytes(b"no video at all" * 100)
  error = refused(engine, ask(video=broken))
  assert error.status == 400 and str(error).startswith("The video: ")
  assert str(tmp_path) not in str(error)


def test_a_fault_of_the_device_ends_its_requests_alone(engine, monkeypatch, capfd):
  with monkeypatch.context() as patch:
    patch.setattr("filax.infer.decoding.DECODE", lambda *args, **options: 1 / 0)
    error = refused(engine, ask("A secret?", temperature=1.5, max_new_tokens=30))
  assert error.status == 500
  assert "ZeroDivisionError" in (log := capfd.readouterr().err) and "secret" not in log
  assert whole_text(engine.submit(ask(max_new_tokens=9)))


def test_a_conversation_ends_with_a_question(engine):
  messages = (ChatMessage("user", ("Hi",)), ChatMessage("assistant", ("Hello",)))
  assert "last message" in str(refused(engine, AnswerRequest(messages)))


def test_other_selectors_and_their_number(session, videos):
  engine = Engine(session, with_changes(LIMITS, ["variants=2"]))
  assert "nothing" in str(refused(engine, ask(selector="nothing")))
  text = whole_text(engine.submit(ask(video=videos[0], selector="uniform", max_new_tokens=6)))
  uniform: LoadedModel = session.with_selector("uniform")
  assert text == uniform.ask(videos[0], QUESTION, max_new_tokens=6)
  request = dataclasses.replace(ask(), dropout="1:uniform:0.5")
  assert "variants" in str(refused(engine, request))
  engine.close(5)


def test_work_beside_answers_runs_alone_on_the_device(engine):
  assert engine.on_device(max, 2, 3).result(10) == 3
  assert isinstance(engine.on_device(int, "x").exception(10), ValueError)


def test_closing_finishes_what_runs(session):
  engine = Engine(session, LIMITS)
  handle = engine.submit(ask(temperature=1.5, seed=2, max_new_tokens=60))
  engine.close(20)
  assert whole_text(handle)
  assert refused(engine, ask()).status == 503
