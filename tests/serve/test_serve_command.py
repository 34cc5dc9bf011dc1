# SPDX-License-Identifier: Apache-2.0
"""`filax serve` as a process, asked with the openai client and with httpx."""

import base64
import concurrent.futures
import json
import pathlib
import signal
import socket
import time

import httpx
import openai
import pytest
from serve_process import ServeProcess, serving

from filax.cli.main import main
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

KEY = "a key for tests"
HEADERS = {"Authorization": f"Bearer {KEY}"}
LIMITS = ("batch=4", "video_seconds=30", "body_bytes=400000", "upload_bytes=300000")
LONG = dict(max_tokens=1000, temperature=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
  folder = tmp_path_factory.mktemp("media")
  clips.write_video(folder / "a.mp4", 40)
  clips.write_video(folder / "long.mp4", 400)
  for number in range(5):
    clips.write_picture(folder / f"{number}.png", number)
  return folder


@pytest.fixture(scope="module")
def server(checkpoint, media, tmp_path_factory):
  options = ["--media-folder", str(media)]
  for limit in LIMITS:
    options += ["--limit", limit]
  key = f"{KEY}\n"  # As from a file.
  with serving(checkpoint, tmp_path_factory.mktemp("serve"), *options, key=key) as server:
    yield server


@pytest.fixture(scope="module")
def client(server):
  with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
    yield client


def messages(*parts, text="What shape is on red?"):
  return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def video(url, **fields):
  return {"type": "video_url", "video_url": {"url": str(url), **fields}}


def data_url(path, kind="video/mp4"):
  content = base64.b64encode(pathlib.Path(path).read_bytes()).decode()
  return f"data:{kind};base64,{content}"


def metric(server, name):
  reply = httpx.get(f"{server.url}/metrics", headers=HEADERS)
  assert "version=0.0.4" in reply.headers["content-type"], "Prometheus 3 asks for the format"
  rows = [line.rpartition(" ") for line in reply.text.splitlines() if line.startswith(name)]
  return sum(float(value) for _, _, value in rows)


def ask(client, parts=(), **settings):
  return client.chat.completions.create(model="tiny", messages=messages(*parts), **settings)


def test_the_model_is_listed(client, server):
  assert [model.id for model in client.models.list()] == ["tiny"]
  assert client.models.retrieve("tiny").object == "model"
  assert httpx.get(f"{server.url}/health", headers=HEADERS).json()["status"] == "ok"


def test_a_whole_answer_equals_a_streamed_one(client, media):
  parts = [video(data_url(media / "a.mp4"))]
  whole = ask(client, parts, max_tokens=12, seed=1)
  stream = ask(
    client, parts, max_tokens=12, seed=1, stream=True, stream_options={"include_usage": True}
  )
  chunks = list(stream)
  text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
  assert text == whole.choices[0].message.content
  assert whole.choices[0].finish_reason in ("stop", "length")
  assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
  assert whole.usage.videos[0]["candidates"] == 24
  assert chunks[-1].usage.videos[0]["cached"]
  assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


@pytest.mark.parametrize(
  "part_fields, body",
  [
    ({}, {"media_io_kwargs": {"video": {"num_frames": 12}}}),
    ({"max_frames": 12}, {}),
    ({}, {"chat_template_kwargs": {"num_frames": 12}}),
  ],
)
def test_three_spellings_give_the_same_frames(client, media, part_fields, body):
  parts = [video(f"file://{media}/a.mp4", **part_fields)]
  answer = ask(client, parts, max_tokens=2, extra_body=body)
  assert answer.usage.videos[0]["candidates"] == 12


def test_an_uploaded_file_is_asked_about_and_removed(client, media):
  with open(media / "a.mp4", "rb") as file:
    stored = client.files.create(file=file, purpose="user_data")
  assert stored.filename == "a.mp4" and stored.bytes == (media / "a.mp4").stat().st_size
  answer = ask(client, [video(stored.id, fps=2, start=1, end=3)], max_tokens=2)
  (facts,) = answer.usage.videos
  assert (facts["candidates"], facts["start"], facts["end"]) == (4, 1.0, 3.0)
  assert stored.id in [row.id for row in client.files.list()]
  assert client.files.delete(stored.id).deleted
  with pytest.raises(openai.NotFoundError):
    ask(client, [video(stored.id)])


def test_many_pictures_are_a_video(client, media):
  pictures = []
  for number in range(5):
    url = data_url(media / f"{number}.png", "image/png")
    pictures.append({"type": "image_url", "image_url": {"url": url}})
  answer = ask(client, pictures, max_tokens=2, extra_body={"fps": 2})
  (facts,) = answer.usage.videos
  assert facts["duration"] == 2.5 and facts["candidates"] == 5
  alone = ask(client, pictures[:1], max_tokens=2)
  assert alone.usage.videos == [] and alone.usage.visual_tokens > 0


def test_a_stop_string_and_several_answers(client):
  whole = ask(client, temperature=1.5, seed=3, max_tokens=20, n=2)
  first = whole.choices[0].message.content
  assert len({choice.message.content for choice in whole.choices}) == 2
  cut = ask(client, temperature=1.5, seed=3, max_tokens=20, stop=first[3:6])
  assert cut.choices[0].message.content == first[: first.index(first[3:6])].rstrip()
  assert cut.choices[0].finish_reason == "stop"


def bad_requests(media):
  """Requests that cannot be answered, with their status and code."""
  text = messages()
  return [
    (dict(messages=messages(video(f"file://{media}/long.mp4"))), 400, "video_too_long"),
    (dict(messages=messages(video("file:///etc/passwd"))), 404, "file_not_found"),
    (dict(messages=messages(video("http://127.0.0.1/a.mp4"))), 403, "remote_urls_off"),
    (dict(messages=messages(video("data:video/mp4;base64,AAAA"))), 400, "invalid_media"),
    (dict(messages=text, model="gpt"), 404, "model_not_found"),
    (dict(messages=text, temperature=-1), 400, "invalid_value"),
    (dict(messages=text, n=100), 400, "invalid_value"),
    (dict(messages=[]), 400, "invalid_value"),
    (dict(messages=messages(text="circle " * 12_000)), 400, "context_length_exceeded"),
  ]


def test_forty_concurrent_requests_with_bad_ones_among_them(server, media):
  bad = bad_requests(media)
  good = dict(messages=messages(video(f"file://{media}/a.mp4")), max_tokens=8)
  requests = []
  for number in range(40):
    requests.append(bad[number // 4 % len(bad)] if number % 4 == 0 else (good, 200, None))

  def send(request):
    body, _, _ = request
    url = f"{server.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=HEADERS, timeout=60)

  start = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(40) as pool:
    replies = list(pool.map(send, requests))
  assert time.monotonic() - start < 60
  texts = set()
  for reply, (_, status, code) in zip(replies, requests, strict=True):
    assert reply.status_code == status, reply.text
    if code is None:
      texts.add(reply.json()["choices"][0]["message"]["content"])
    else:
      error = reply.json()["error"]
      assert error["code"] == code and set(error) == {"message", "type", "param", "code"}
      assert str(media) not in reply.text and "Traceback" not in reply.text
  assert len(texts) == 1


def test_a_client_that_leaves_frees_its_place(server):
  body = dict(messages=messages(), stream=True, **LONG)
  url = f"{server.url}/v1/chat/completions"
  with httpx.stream("POST", url, json=body, headers=HEADERS) as reply:
    next(reply.iter_lines())
  before = metric(server, "filax_chunks_total")
  deadline = time.monotonic() + 10
  while metric(server, "filax_running") and time.monotonic() < deadline:
    time.sleep(0.02)
  assert metric(server, "filax_running") == 0
  assert (
    metric(server, "filax_chunks_total") - before <= 8
  )  # Of 125; the metrics take time as well.
  assert metric(server, "filax_cancelled_total") >= 1


def test_a_client_that_waits_for_a_whole_answer_may_leave_too(server):
  before = metric(server, "filax_cancelled_total")
  body = dict(messages=messages(), **LONG)
  with pytest.raises(httpx.ReadTimeout):
    url = f"{server.url}/v1/chat/completions"
    httpx.post(url, json=body, headers=HEADERS, timeout=httpx.Timeout(5, read=0.05))
  deadline = time.monotonic() + 10
  while metric(server, "filax_cancelled_total") == before and time.monotonic() < deadline:
    time.sleep(0.02)
  assert metric(server, "filax_cancelled_total") > before


@pytest.mark.parametrize(
  "method, path",
  [
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("DELETE", "/v1/files/file-x"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/live"),
    ("GET", "/v1/live/x"),
    ("POST", "/v1/live/x/frames"),
    ("POST", "/v1/live/x/chat/completions"),
    ("OPTIONS", "/v1/files"),
    ("GET", "/page/examples/0"),
    ("GET", "/"),
    ("GET", "/docs"),
  ],
)
def test_every_route_needs_the_key(server, method, path):
  for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
    reply = httpx.request(method, server.url + path, headers=headers)
    assert reply.status_code == 401 and reply.json()["error"]["code"] == "invalid_api_key"


def test_a_browser_is_asked_for_the_key(server):
  reply = httpx.get(f"{server.url}/", headers={"Accept": "text/html"})
  assert reply.headers["www-authenticate"].startswith("Basic")
  assert httpx.get(f"{server.url}/health", auth=("me", KEY)).status_code == 200


@pytest.mark.parametrize(
  "headers, status",
  [
    ({"Host": "evil.example"}, 421),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Content-Length": "500000"}, 413),
    ({"Content-Type": "text/plain"}, 415),
  ],
)
def test_requests_of_other_pages_and_sizes_are_refused(server, headers, status):
  url = f"{server.url}/v1/chat/completions"
  reply = httpx.post(
    url, headers=HEADERS | headers, content=b"x" * 500_000 if status == 413 else b"{}"
  )
  assert reply.status_code == status and reply.json()["error"]["message"]


def test_a_long_body_without_a_length_is_refused(server):
  url = f"{server.url}/v1/chat/completions"
  reply = httpx.post(url, headers=HEADERS, content=iter([b" " * 100_000] * 6))
  assert reply.status_code == 413


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_a_body_that_is_no_json_is_refused(server, content):
  headers = HEADERS | {"Content-Type": "application/json"}
  reply = httpx.post(f"{server.url}/v1/chat/completions", headers=headers, content=content)
  assert reply.status_code == 400 and reply.json()["error"]["code"] == "invalid_json"


def test_wrong_routes_have_errors_in_the_same_form(server):
  reply = httpx.get(f"{server.url}/v1/nothing", headers=HEADERS)
  assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"
  assert httpx.get(f"{server.url}/v1/chat/completions", headers=HEADERS).status_code == 405
  assert httpx.head(f"{server.url}/health", headers=HEADERS).status_code == 200
  reply = httpx.post(f"{server.url}/v1/embeddings", headers=HEADERS, json={})
  assert reply.status_code == 404
  assert reply.json()["error"]["message"] == "POST /v1/embeddings is not served here."


def test_an_upload_beyond_the_quota_is_refused(server):
  files = {"file": ("a.mp4", b"x" * 350_000)}
  reply = httpx.post(f"{server.url}/v1/files", headers=HEADERS, files=files)
  assert reply.status_code == 507
  assert httpx.post(f"{server.url}/v1/files", headers=HEADERS, json={}).status_code == 400


def test_a_half_sent_request_keeps_nobody_waiting(server, client):
  host, port = server.url.removeprefix("http://").split(":")
  with socket.create_connection((host, int(port))) as half:
    half.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
    assert ask(client, max_tokens=2).choices


def test_prompts_are_not_logged(server, client):
  client.chat.completions.create(
    model="tiny", messages=messages(text="a secret question"), max_tokens=2
  )
  assert "secret" not in server.log.read_text()


def events_after_signal(server, number, **settings):
  """The events of a stream in whose beginning the server gets a signal."""
  body = dict(messages=messages(), stream=True, **settings)
  url = f"{server.url}/v1/chat/completions"
  with httpx.stream("POST", url, json=body, timeout=60) as reply:
    lines = reply.iter_lines()
    next(lines)
    server.process.send_signal(number)
    return [line for line in lines if line]


def test_a_signal_finishes_what_runs(checkpoint, tmp_path):
  server = ServeProcess(checkpoint, tmp_path)
  data = events_after_signal(server, signal.SIGTERM, seed=1, max_tokens=300, temperature=1.5)
  assert data[-1] == "data: [DONE]"
  last = json.loads(data[-2].removeprefix("data: "))
  assert last["choices"][0]["finish_reason"] in ("stop", "length")
  assert server.stop() == 0
  assert not list((tmp_path / "uploads").iterdir())


def test_an_answer_beyond_the_time_to_stop_ends_with_an_error(tmp_path):
  checkpoint = tiny_checkpoint.write_checkpoint(tmp_path / "long", **{"model.llm.positions": 32768})
  options = ("--stop-seconds", "0", "--limit", "answer_tokens=30000")
  server = ServeProcess(checkpoint, tmp_path, *options)
  data = events_after_signal(server, signal.SIGINT, max_tokens=30000, temperature=0)
  last = json.loads(data[-1].removeprefix("data: "))
  assert last["error"]["code"] == "server_stopping"
  assert server.stop() == 0
  assert "Traceback" not in server.log.read_text()


def test_an_address_beyond_this_machine_needs_a_key(checkpoint, capsys, monkeypatch):
  monkeypatch.delenv("FILAX_API_KEY", raising=False)
  assert main(["serve", "--checkpoint", checkpoint, "--host", "0.0.0.0"]) == 2
  assert "FILAX_API_KEY" in capsys.readouterr().err
  assert main(["serve", "--checkpoint", checkpoint, "--limit", "frames=0"]) == 2
  assert "frames" in capsys.readouterr().err
