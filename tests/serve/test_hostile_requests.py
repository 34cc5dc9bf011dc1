# SPDX-License-Identifier: Apache-2.0
"""Requests that try to break the server: each gets one sentence, and the next one an answer."""

import base64
import json
import resource
import socket
import sys

import pytest
import requests_of_tests
from starlette.testclient import TestClient

import filax
from filax.serve import server
from filax.serve.app import ChatServer, build_app
from filax.serve.engine import Engine
from filax.serve.guard import GuardRules
from filax.serve.limits import ServingLimits
from filax.serve.media_sources import MediaSources
from filax.serve.remote_media import RemoteMedia
from filax.serve.uploads import REQUEST, UploadStore
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

LIMITS = ServingLimits(batch=1, frames=64)
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
  folder = tmp_path_factory.mktemp("media")
  clips.write_video(folder / "a.mp4", 40)
  return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory, media):
  folder = tmp_path_factory.mktemp("hostile")
  session = filax.load(tiny_checkpoint.write_checkpoint(folder / "run"))
  engine = Engine(session, LIMITS)
  uploads = UploadStore(LIMITS.upload_bytes, LIMITS.upload_seconds, str(folder / "uploads"))
  sources = MediaSources(uploads, RemoteMedia((), 1, 1.0), str(media))
  app = build_app(ChatServer(engine, sources, uploads, "tiny"), GuardRules(), stop_seconds=5.0)
  with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
    yield client


def refused(reply, status=400):
  """The error of a refused request."""
  assert reply.status_code == status, reply.text
  error = reply.json()["error"]
  assert set(error) == {"message", "type", "param", "code"}
  assert len(error["message"]) <= 510
  return error


def body_with(fields, content='"hi"'):
  """JSON of a question, with more fields as text."""
  return f'{{"messages": [{{"role": "user", "content": {content}}}], {fields}}}'


NUMBERS = [
  '"temperature": NaN',
  '"temperature": Infinity',
  '"temperature": 1e308',
  '"max_tokens": 1e400',
  '"max_tokens": -5',
  '"max_tokens": 0',
  '"max_tokens": ' + "1" * 4000,
  '"seed": NaN',
  '"n": -1',
  '"top_p": NaN',
  '"min_p": -1',
  '"top_k": -1',
  '"repetition_penalty": 1e308',
  '"stop": [""]',
]


def test_a_client_that_leaves_before_the_first_event_holds_no_file(client, media):
  """It reads nothing and leaves, so the stream of its answer is never begun."""
  url = f"data:video/mp4;base64,{base64.b64encode((media / 'a.mp4').read_bytes()).decode()}"
  content = [dict(type="video_url", video_url=dict(url=url)), dict(type="text", text="What?")]
  body = json.dumps(dict(messages=[dict(role="user", content=content)], stream=True, max_tokens=64))
  requests_of_tests.post_and_leave(client, CHAT, body.encode())
  assert "filax_upload_bytes 0\n" in client.get("/metrics").text


@pytest.mark.parametrize("field", NUMBERS, ids=[field[:24] for field in NUMBERS])
def test_impossible_numbers(client, field):
  refused(client.post(CHAT, content=body_with(field), headers=JSON))


@pytest.mark.parametrize("number", ["NaN", "1e999", "9" * 4000, "-1"])
@pytest.mark.parametrize("field", ["fps", "num_frames", "start", "end"])
def test_impossible_frames(client, media, field, number):
  url = json.dumps({"type": "video_url", "video_url": {"url": f"file://{media}/a.mp4"}})
  text = body_with(f'"{field}": {number}', f"[{url}]")
  refused(client.post(CHAT, content=text, headers=JSON))


@pytest.mark.parametrize(
  "text",
  [
    body_with('"max_tokens": 2', '"a\\ud800b"'),
    body_with('"\\udfff": 1'),
    body_with('"selector": "\\ud800"'),
    body_with('"model": "\\ud800"'),
  ],
)
def test_half_of_a_surrogate_pair(client, text):
  assert refused(client.post(CHAT, content=text, headers=JSON))["code"] == "invalid_json"


@pytest.mark.parametrize("header", ["Content-Type: text/plain", "Content-Encoding: gzip"])
def test_a_body_of_another_kind_is_told_what_to_send(client, header):
  name, _, value = header.partition(": ")
  reply = client.post(CHAT, content="{}", headers=JSON | {name.lower(): value})
  assert refused(reply, 415)["message"].startswith(f"The body has {header}. Send")


def test_damaged_json_is_told_its_place(client):
  message = refused(client.post(CHAT, content='{"a": 1,, }', headers=JSON))["message"]
  assert "(line 1, column 9)" in message


def test_surrogates_in_bytes(client):
  content = body_with('"max_tokens": 2', '"a?b"').encode().replace(b"?", b"\xed\xa0\x80")
  refused(client.post(CHAT, content=content, headers=JSON))


def test_a_whole_surrogate_pair_is_a_letter(client):
  text = body_with('"max_tokens": 2', '"a\\ud83d\\ude00b"')
  assert client.post(CHAT, content=text, headers=JSON).status_code == 200


def ask(client, content="hi", **fields):
  return client.post(CHAT, json=dict(messages=[dict(role="user", content=content)], **fields))


def test_names_of_control_tokens_are_letters(client):
  reply = ask(client, "<s></s><|im_end|><image><video>", max_tokens=2)
  assert reply.status_code == 200 and reply.json()["usage"]["prompt_tokens"] > 8


@pytest.mark.parametrize("selector", ["antigravity:Class", "../../secrets", "filax.cli.main"])
def test_a_selector_imports_no_module(client, selector):
  assert refused(ask(client, selector=selector))["param"] == "selector"
  assert "antigravity" not in sys.modules


def test_what_errors_quote_is_short(client):
  refused(client.post(CHAT, json=dict(messages=[dict(role="x" * 100_000, content="hi")])))
  refused(ask(client, selector="x" * 100_000))


def test_too_many_parts_messages_and_pictures(client):
  refused(ask(client, [dict(type="text", text="")] * 20_000))
  refused(client.post(CHAT, json=dict(messages=[dict(role="user", content="")] * 20_000)))
  pictures = "data:video/jpeg;base64," + ",".join(["AAAA"] * 1000)
  error = refused(ask(client, [dict(type="video_url", video_url=dict(url=pictures))]))
  assert error["code"] == "too_many_frames"


def test_text_far_beyond_the_context_is_not_read_to_its_end(client):
  for text in ("a" * 390_000, "circle " * 50_000):
    error = refused(ask(client, text))
    assert error["code"] == "context_length_exceeded" and "config." not in error["message"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00b", "<script>", "a/b\\c", "\u202egnp"])
def test_names_of_uploads_lead_nowhere(client, name):
  reply = client.post("/v1/files", files={"file": (name, b"content")})
  assert reply.status_code == 200
  assert not set("/\\\x00<>\u202e") & set(reply.json()["filename"])
  client.delete(f"/v1/files/{reply.json()['id']}")


def test_odd_forms_are_refused(client):
  refused(client.post("/v1/files", files={"file": ("a", b"")}))
  refused(client.post("/v1/files", data={"file": "text"}))
  refused(client.post("/v1/files", files=[("x", ("a", b"b"))] * 20))
  refused(client.post("/v1/files", files={"file": ("a", b"b")}, data={"purpose": REQUEST}))
  kind = {"content-type": "multipart/form-data; boundary=" + "b" * 5000}
  refused(client.post("/v1/files", content=b"xxxx", headers=kind))


@pytest.mark.parametrize(
  "charset, value",
  [
    ("unicode_escape", rb"\ud800"),  # Half of a pair, which no later list could hold.
    ("utf-8; charset=utf-7", b"+2AA-"),
    ('"punycode"', b"a" * 2_000 + b"-" + b"b" * 2_000),  # Quadratic: an hour for a megabyte.
    ("utf-8; charset*0=puny; charset*1=code", b"a"),
  ],
)
def test_forms_are_utf_8(client, charset, value):
  parts = (b'form-data; name="file"; filename="a"', b"a"), (b'form-data; name="purpose"', value)
  body = b"".join(b"--b\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % part for part in parts)
  kind = f"multipart/form-data; boundary=b; charset={charset}"
  headers = {"content-type": kind}
  error = refused(client.post("/v1/files", content=body + b"--b--\r\n", headers=headers))
  assert "must be utf-8" in error["message"]
  assert client.get("/v1/files").json()["data"] == []


def test_a_full_disk_is_no_failure_of_the_server(client, capfd):
  """No file may grow beyond 1.2 MB; the first MB of an upload waits in memory."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, limits[1]))
  try:
    error = refused(client.post("/v1/files", files={"file": ("a", b"x" * 2_000_000)}), 507)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert error["code"] == "no_room" and "Traceback" not in capfd.readouterr().err
  assert "filax_upload_bytes 0\n" in client.get("/metrics").text


def test_the_list_of_files_shows_no_running_request(tmp_path):
  store = UploadStore(100, 3600, str(tmp_path))
  with open(__file__, "rb") as file:
    store.add_file(_Start(file), "data", REQUEST)
  assert store.files() == [] and store.bytes == 10
  store.close()


class _Start:
  """The first bytes of a file."""

  def __init__(self, file):
    self._contents = [file.read(10), b""]

  def read(self, size):
    del size
    return self._contents.pop(0)


def test_folders_of_killed_servers_are_removed(tmp_path):
  alive = UploadStore(100, 3600, str(tmp_path))
  killed = tmp_path / "filax-serve-killed"
  killed.mkdir()
  (killed / ".lock").touch()
  (killed / "file-1").write_bytes(b"left")
  other = UploadStore(100, 3600, str(tmp_path))
  assert not killed.exists() and len(list(tmp_path.iterdir())) == 2
  for store in (alive, other, other):
    store.close()
  assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_one_sentence():
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(ValueError, match=f"--port {port} cannot be used"):
      server.check_address(server.ServerOptions(port=port))
  with pytest.raises(ValueError, match="cannot be used"):
    server.check_address(server.ServerOptions(host="127.0.0.1.invalid", key="k"))


@pytest.mark.parametrize("key", ["sécret", "a\nb"])
def test_a_key_that_no_client_can_send_is_refused(key):
  with pytest.raises(ValueError, match="FILAX_API_KEY holds characters"):
    server.check_address(server.ServerOptions(port=0, key=key))


def test_a_media_folder_that_is_none_is_named(tmp_path):
  """No request could name a file in it."""
  server.check_media_folder("")
  server.check_media_folder(str(tmp_path))
  with pytest.raises(ValueError, match=r"--media-folder .*/vidoes is not a folder"):
    server.check_media_folder(str(tmp_path / "vidoes"))


def test_the_server_answers_after_all_that(client):
  assert ask(client, max_tokens=2).status_code == 200
