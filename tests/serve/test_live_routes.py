# SPDX-License-Identifier: Apache-2.0
"""Live sessions over HTTP: their frames, questions, owners and limits."""

import base64
import io
import json

import numpy as np
from PIL import Image
import pytest
import requests_of_tests
from starlette.testclient import TestClient

import filax
from filax.serve import chat_body, live_routes
from filax.serve.app import ChatServer, build_app
from filax.serve.engine import Engine
from filax.serve.guard import GuardRules
from filax.serve.limits import ServingLimits
from filax.serve.media_sources import MediaSources
from filax.serve.remote_media import RemoteMedia
from filax.serve.uploads import UploadStore
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

LIMITS = ServingLimits(batch=1, live_sessions=2, live_tokens=256)
QUESTION = dict(messages=[dict(role="user", content="What shape is on red?")], max_tokens=4)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  folder = tmp_path_factory.mktemp("live")
  return filax.load(tiny_checkpoint.write_checkpoint(folder / "run"))


@pytest.fixture
def client(session, tmp_path):
  engine = Engine(session, LIMITS)
  uploads = UploadStore(LIMITS.upload_bytes, LIMITS.upload_seconds, str(tmp_path))
  sources = MediaSources(uploads, RemoteMedia((), 1, 1.0), "")
  app = build_app(ChatServer(engine, sources, uploads, "tiny"), GuardRules(), stop_seconds=5.0)
  with TestClient(app, base_url="http://127.0.0.1") as client:
    yield client


def pictures(count):
  """Random pictures as data URLs and as arrays; PNG keeps every pixel."""
  drawn = np.random.default_rng(0).integers(0, 256, (count, 42, 42, 3), np.uint8)
  urls = []
  for picture in drawn:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    urls.append(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
  return urls, drawn


def start(client, **headers):
  reply = client.post("/v1/live", headers=headers)
  assert reply.status_code == 201, reply.text
  return reply.json()["id"]


def test_frames_and_a_question_equal_a_session_in_python(client, session):
  urls, frames = pictures(9)
  name = start(client)
  times = [float(second) for second in range(9)]
  for part in (slice(0, 4), slice(4, 9)):
    body = dict(frames=urls[part], times=times[part])
    reply = client.post(f"/v1/live/{name}/frames", json=body)
    assert reply.status_code == 200, reply.text
  assert (reply.json()["frames"] + reply.json()["waiting"], reply.json()["dropped"]) == (9, 0)
  reply = client.post(f"/v1/live/{name}/chat/completions", json=QUESTION)
  assert reply.status_code == 200, reply.text
  live = session.live(tokens=LIMITS.live_tokens)
  live.append(frames, times)
  answer = live.ask("What shape is on red?", max_new_tokens=4)
  assert reply.json()["choices"][0]["message"]["content"] == answer.text
  assert reply.json()["usage"]["completion_tokens"] == answer.tokens
  streamed = client.post(f"/v1/live/{name}/chat/completions", json=QUESTION | dict(stream=True))
  events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: ")]
  assert events[-1] == "[DONE]"
  chunks = [json.loads(text)["choices"][0] for text in events[:-1]]
  assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == answer.text
  assert chunks[-1]["finish_reason"] in ("stop", "length")


def test_a_client_that_leaves_before_the_first_event_leaves_no_open_answer(client):
  """It reads nothing and leaves, so the stream of its answer is never begun."""
  name = start(client)
  urls, _ = pictures(3)
  client.post(f"/v1/live/{name}/frames", json=dict(frames=urls, times=[0.0, 1.0, 2.0]))
  path = f"/v1/live/{name}/chat/completions"
  body = json.dumps(QUESTION | dict(stream=True)).encode()
  requests_of_tests.post_and_leave(client, path, body)
  assert client.post(path, json=QUESTION).status_code == 200


def test_an_answer_has_at_most_the_tokens_of_the_server(session):
  body = chat_body.parse_body(dict(messages=QUESTION["messages"]), LIMITS)
  assert live_routes._settings_of_body(body, 8, 6)["max_new_tokens"] == 6
  assert live_routes._settings_of_body(body, 8, 1024)["max_new_tokens"] == 8


def test_a_session_belongs_to_who_started_it(client):
  name = start(client, authorization="Bearer one")
  other = dict(authorization="Bearer two")
  assert client.get(f"/v1/live/{name}", headers=other).status_code == 404
  assert client.delete(f"/v1/live/{name}", headers=other).status_code == 404
  mine = dict(authorization="Bearer one")
  assert client.get(f"/v1/live/{name}", headers=mine).status_code == 200
  assert client.delete(f"/v1/live/{name}", headers=mine).status_code == 200
  assert client.get(f"/v1/live/{name}", headers=mine).json()["error"]["code"] == "session_not_found"


def test_one_session_too_many_is_refused_until_one_ends(client):
  names = [start(client) for _ in range(LIMITS.live_sessions)]
  refused = client.post("/v1/live")
  assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_sessions")
  client.delete(f"/v1/live/{names[0]}")
  start(client)


URLS = pictures(1)[0]
BAD_FRAMES = [
  (dict(frames=URLS), "times must be a list"),
  (dict(frames=URLS, times=[1.0, 2.0]), "1 frames need as many times"),
  (dict(frames=URLS, times=["now"]), "times must be a list of seconds"),
  (dict(frames=URLS * 2, times=[2.0, 1.0]), "must never fall"),
  (dict(frames=["/etc/passwd"], times=[1.0]), "A data URL must hold base64"),
  (dict(frames=["data:image/png;base64,aGVsbG8="], times=[1.0]), "is not a picture"),
  (dict(frames=[*URLS, "data:image/png;base64,aGVsbG8="], times=[1.0, 2.0]), "frames[1]"),
  (dict(frames=[], times=[]), "1 to"),
  ([], "must be a JSON object"),
]


@pytest.mark.parametrize("body,message", BAD_FRAMES)
def test_bad_frames_are_one_sentence_and_change_nothing(client, body, message):
  name = start(client)
  reply = client.post(f"/v1/live/{name}/frames", json=body)
  assert reply.status_code == 400 and message in reply.json()["error"]["message"]
  fields = client.get(f"/v1/live/{name}").json()
  assert (fields["frames"], fields["waiting"]) == (0, 0)


BAD_QUESTIONS = [
  (QUESTION, "Nothing was seen yet"),
  (QUESTION | dict(n=2), "takes no n"),
  (QUESTION | dict(selector="uniform"), "takes no selector"),
  (QUESTION | dict(max_tokens=10**6), "answer_tokens"),
  (QUESTION | dict(messages=QUESTION["messages"] * 2), "one message of the user"),
]


@pytest.mark.parametrize("body,message", BAD_QUESTIONS)
def test_bad_questions_are_one_sentence(client, body, message):
  name = start(client)
  reply = client.post(f"/v1/live/{name}/chat/completions", json=body)
  assert reply.status_code == 400 and message in reply.json()["error"]["message"]
