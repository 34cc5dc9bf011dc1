# SPDX-License-Identifier: Apache-2.0
"""The routes of the web page: all of them need the key, and only the needed ones exist."""

from page_server import page_app, write_demo
import pytest
from starlette.testclient import TestClient

import filax

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

KEY = "a-secret"
USED = ("/", "/config", "/theme.css", "/gradio_api/app_id", "/page/examples/0", "/v1/files")
UNUSED = (
  "/gradio_api/upload",
  "/gradio_api/file=/etc/passwd",
  "/gradio_api/proxy=http://example.org/",
  "/gradio_api/run/predict",
  "/gradio_api/vibe-edit",
  "/monitoring",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
  folder = tmp_path_factory.mktemp("demo")
  app = page_app(filax.load(write_demo(folder)), folder, KEY)
  with TestClient(app, base_url="http://127.0.0.1") as client:
    yield client


@pytest.mark.parametrize("path", [*USED, *UNUSED])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_of_the_page_is_given_without_the_key(client, method, path):
  assert client.request(method, path).status_code == 401


@pytest.mark.parametrize("path", USED)
def test_a_browser_opens_the_page_with_the_key_as_password(client, path):
  assert client.get(path, auth=("me", KEY)).status_code == 200


@pytest.mark.parametrize("path", UNUSED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_routes_that_take_or_give_files_are_not_served(client, method, path):
  assert client.request(method, path, auth=("me", KEY)).status_code == 404


def test_a_video_of_an_example_is_read_in_parts(client):
  reply = client.get("/page/examples/0", auth=("me", KEY), headers={"range": "bytes=0-99"})
  assert (reply.status_code, len(reply.content)) == (206, 100)
  assert client.get("/page/examples/9", auth=("me", KEY)).status_code == 404


def test_an_event_gives_gradio_no_file_of_the_server(client):
  """gradio would copy it into a folder that others can read."""
  file = {"path": "/etc/hosts", "meta": {"_type": "gradio.FileData"}}
  reply = send_event(client, [file, "", "", None, 2, 0, True])
  assert (reply.status_code, "must be texts" in reply.text) == (400, True)
  assert send_event(client, [[file], "", "", None, 2, 0, True]).status_code == 400
  assert send_event(client, {"0": file}).status_code == 400
  assert send_event(client, ["hi", "", "", None, 2, 0.5, True]).status_code == 200


@pytest.mark.parametrize("number", [4, -1, 10**20, None, True, "1"])
def test_an_event_that_the_page_does_not_have_is_refused(client, number):
  """A page may still be open that another version of the server gave."""
  reply = send_event(client, ["hi", "", "", None, 2, 0.5, True], number)
  assert (reply.status_code, "Load it again" in reply.text) == (400, True)


def test_an_event_with_too_few_values_is_refused(client):
  assert send_event(client, ["hi"]).status_code == 400


@pytest.mark.parametrize("number", ["x", "-1", "9" * 5000, "²", "00"])
def test_an_example_that_is_not_there(client, number):
  assert client.get(f"/page/examples/{number}", auth=("me", KEY)).status_code == 404


def send_event(client, values, number=1):
  """The reply to a question that a page asks."""
  event = dict(data=values, event_data=None, fn_index=number, session_hash="a")
  return client.post("/gradio_api/queue/join", auth=("me", KEY), json=event)


def test_the_page_names_no_other_host(client):
  page = client.get("/", auth=("me", KEY)).text
  for address in ("googleapis", "cdnjs", "gstatic"):
    assert address not in page


def test_an_open_page_keeps_no_connection(client):
  """A browser has six connections to a server, for all its pages."""
  assert not client.get("/config", auth=("me", KEY)).json()["connect_heartbeat"]
