# SPDX-License-Identifier: Apache-2.0
"""Every limit of the server, with its error in OpenAI's form, and its row in the documentation."""

import base64
import contextlib
import dataclasses
import pathlib
import socket
import threading
import time

import pytest
from starlette.testclient import TestClient

import filax
from filax.serve import remote_media
from filax.serve.app import ChatServer, build_app
from filax.serve.engine import Engine
from filax.serve.guard import GuardRules
from filax.serve.limits import ServingLimits
from filax.serve.media_sources import MediaSources
from filax.serve.remote_media import RemoteMedia
from filax.serve.uploads import UploadStore
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run") / "run"))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
  folder = tmp_path_factory.mktemp("media")
  clips.write_video(folder / "a.mp4", 40)
  clips.write_picture(folder / "0.png", 0)
  return folder


@pytest.fixture
def serve(session, media, tmp_path):
  """A function that serves with some limits changed, and gives a client and the engine."""
  clients = []

  def start(**changes):
    limits = ServingLimits(**(dict(batch=2) | changes))
    engine = Engine(session, limits)
    uploads = UploadStore(limits.upload_bytes, limits.upload_seconds, str(tmp_path))
    remote = RemoteMedia(("example.org",), limits.file_bytes, limits.fetch_seconds)
    sources = MediaSources(uploads, remote, str(media))
    app = build_app(ChatServer(engine, sources, uploads, "tiny"), GuardRules(), stop_seconds=5.0)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    clients.append(client.__enter__())
    return client, engine

  yield start
  for client in clients:
    client.__exit__(None, None, None)


def check_error(reply, status, code, limit):
  """One sentence in OpenAI's form that names the limit, and no path."""
  assert reply.status_code == status, reply.text
  error = reply.json()["error"]
  assert set(error) == {"message", "type", "param", "code"} and error["code"] == code
  assert limit in error["message"] and str(ROOT) not in reply.text and "/tmp" not in reply.text


def question(*parts, text="hi", **fields):
  content = [*parts, dict(type="text", text=text)]
  return dict(messages=[dict(role="user", content=content)]) | fields


def video(media, **fields):
  url = f"file://{media}/a.mp4"
  return dict(type="video_url", video_url=dict(url=url, **fields))


def picture(media):
  content = base64.b64encode((media / "0.png").read_bytes()).decode()
  return dict(type="image_url", image_url=dict(url=f"data:image/png;base64,{content}"))


REFUSED = [
  ("body_bytes", 100, lambda media: question(text="a" * 200), 413, "too_large"),
  ("bodies_bytes", 100, lambda media: question(text="a" * 200), 503, "busy"),
  (
    "media",
    1,
    lambda media: question(video(media), picture(media), video(media)),
    400,
    "invalid_value",
  ),
  ("video_seconds", 1.0, lambda media: question(video(media)), 400, "video_too_long"),
  ("frames", 12, lambda media: question(video(media, num_frames=13)), 400, "too_many_frames"),
  ("pixels", 100, lambda media: question(video(media)), 400, "too_many_pixels"),
  ("pixels", 100, lambda media: question(picture(media)), 400, "too_many_pixels"),
  ("answer_tokens", 8, lambda media: question(max_tokens=9), 400, "invalid_value"),
  ("answers", 1, lambda media: question(n=2), 400, "invalid_value"),
  (
    "prompt_characters",
    10,
    lambda media: question(text="a" * 11),
    400,
    "context_length_exceeded",
  ),
  ("variants", 1, lambda media: question(video(media), selector="uniform"), 400, "invalid_value"),
  ("decode_seconds", 1e-9, lambda media: question(video(media)), 504, "decode_timeout"),
]


@pytest.mark.parametrize(
  "limit, value, body, status, code", REFUSED, ids=[f"{row[0]}-{row[1]}" for row in REFUSED]
)
def test_a_request_beyond_a_limit(serve, media, limit, value, body, status, code):
  client, _ = serve(**{limit: value})
  check_error(client.post(CHAT, json=body(media)), status, code, limit)


def test_requests_that_wait(serve):
  client, engine = serve(waiting=1, waiting_seconds=0.3)
  busy = engine.on_device(time.sleep, 3.0)
  check_error(client.post(CHAT, json=question(max_tokens=2)), 503, "queue_timeout", "waiting_sec")
  engine.limits = dataclasses.replace(engine.limits, waiting=0)
  check_error(client.post(CHAT, json=question(max_tokens=2)), 429, "queue_full", "waiting")
  busy.result()


def test_uploads(serve):
  client, _ = serve(file_bytes=100, upload_bytes=50, upload_seconds=1.5)
  upload = {"file": ("a", b"x" * 60)}
  check_error(client.post("/v1/files", files=upload), 507, "upload_quota", "upload_bytes")
  large = {"file": ("a", b"x" * 100_000)}
  check_error(client.post("/v1/files", files=large), 413, "too_large", "file_bytes")
  kept = client.post("/v1/files", files={"file": ("a", b"x")}).json()["id"]
  assert client.get(f"/v1/files/{kept}").status_code == 200
  time.sleep(1.6)
  check_error(client.get(f"/v1/files/{kept}"), 404, "file_not_found", "")


DRIPPED = (b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("dripped", DRIPPED)
def test_a_url_that_is_slow(serve, monkeypatch, dripped):
  """Its server sends nothing, or a byte now and then."""

  def drip(listener):
    with listener.accept()[0] as fetcher, contextlib.suppress(OSError):
      fetcher.sendall(dripped)
      for _ in range(100):
        time.sleep(0.1)
        fetcher.sendall(b"x" if dripped else b"")

  client, _ = serve(fetch_seconds=0.5)
  with socket.create_server(("127.0.0.1", 0)) as listener:
    threading.Thread(target=drip, args=[listener], daemon=True).start()
    monkeypatch.setattr(remote_media, "public_address", lambda host, port: "127.0.0.1")
    monkeypatch.setitem(remote_media._PORTS, "http", listener.getsockname()[1])
    part = dict(type="video_url", video_url=dict(url="http://example.org/a.mp4"))
    start = time.monotonic()
    check_error(client.post(CHAT, json=question(part)), 504, "fetch_timeout", "fetch_seconds")
    assert time.monotonic() - start < 5


def test_live_sessions(serve, media):
  client, _ = serve(live_sessions=1, live_frames=1, live_seconds=1.5, live_tokens=64)
  name = client.post("/v1/live").json()["id"]
  check_error(client.post("/v1/live"), 429, "too_many_sessions", "live sessions")
  url = picture(media)["image_url"]["url"]
  body = dict(frames=[url, url], times=[0.0, 1.0])
  reply = client.post(f"/v1/live/{name}/frames", json=body)
  check_error(reply, 400, "invalid_value", "live_frames")
  time.sleep(1.6)
  check_error(client.get(f"/v1/live/{name}"), 404, "session_not_found", "")


def test_every_limit_stands_in_the_documentation():
  text = (ROOT / "docs/serving.md").read_text()
  names = [field.name for field in dataclasses.fields(ServingLimits)]
  assert [name for name in names if f"`{name}`" not in text] == []
