# SPDX-License-Identifier: Apache-2.0
"""Where media may come from: uploads within their quota, one folder, public hosts alone."""

import contextlib
import io
import os
import socket
import threading

import pytest

from filax.serve import remote_media
from filax.serve.chat_body import MediaReference
from filax.serve.media_sources import MediaSources
from filax.serve.remote_media import RemoteMedia, is_public, public_address
from filax.serve.requests import VIDEO, FrameSettings, RequestError
from filax.serve.uploads import UploadStore, safe_name

HELLO = "data:video/mp4;base64,aGVsbG8="


@pytest.fixture
def store(tmp_path):
  store = UploadStore(100, 3600, str(tmp_path / "uploads"))
  yield store
  store.close()


@pytest.fixture
def folder(tmp_path):
  folder = tmp_path / "media"
  folder.mkdir()
  (folder / "a.mp4").write_bytes(b"video")
  (tmp_path / "secret.mp4").write_bytes(b"secret")
  (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
  (folder / "up").symlink_to(tmp_path)
  return folder


@pytest.fixture
def find(store, folder):
  """A function that gives the path of a URL."""
  sources = MediaSources(store, RemoteMedia((), 100, 5), str(folder))
  with contextlib.ExitStack() as stack:

    def find_path(url):
      reference = MediaReference(VIDEO, (url,), FrameSettings(), "The video")
      return sources.find_medium(reference, stack).paths[0]

    yield find_path


def refusal(function, *args):
  with pytest.raises(RequestError) as caught:
    function(*args)
  return caught.value


def test_a_local_file_below_the_folder(find, folder):
  assert find(f"file://{folder}/a.mp4") == str(folder / "a.mp4")


@pytest.mark.parametrize(
  "name",
  [
    "link.mp4",
    "up/secret.mp4",
    "../secret.mp4",
    "%2e%2e/secret.mp4",
    "gone.mp4",
    "",
    "a.mp4%00",
    "a.mp4%23x",
  ],
)
def test_no_path_leads_out_of_the_folder(find, folder, name):
  error = refusal(find, f"file://{folder}/{name}")
  assert error.status == 404 and str(folder) not in str(error)


def test_only_files_of_the_folder_are_lasting(store, folder):
  sources = MediaSources(store, RemoteMedia((), 100, 5), str(folder))
  with contextlib.ExitStack() as stack:
    for url, expected in ((f"file://{folder}/a.mp4", True), (HELLO, False)):
      reference = MediaReference(VIDEO, (url,), FrameSettings(), "The video")
      assert sources.find_medium(reference, stack).is_lasting is expected


def test_local_files_are_off_without_a_folder(store):
  sources = MediaSources(store, RemoteMedia((), 100, 5))
  reference = MediaReference(VIDEO, ("file:///etc/passwd",), FrameSettings(), "The video")
  with contextlib.ExitStack() as stack:
    assert refusal(sources.find_medium, reference, stack).code == "local_files_off"


def test_a_data_url_lives_as_long_as_its_request(store):
  sources = MediaSources(store, RemoteMedia((), 100, 5))
  reference = MediaReference(VIDEO, (HELLO, HELLO), FrameSettings(), "The video")
  with contextlib.ExitStack() as stack:
    paths = sources.find_medium(reference, stack).paths
    assert [open(path, "rb").read() for path in paths] == [b"hello"] * 2
    assert store.bytes == 10
  assert store.bytes == 0 and not any(map(os.path.exists, paths))


@pytest.mark.parametrize(
  "url",
  [
    "data:video/mp4,plain",
    "data:video/mp4;base64,???",
    "data:video/mp4;base64,",
    "gs://b/a.mp4",
    "/etc/passwd",
  ],
)
def test_other_urls_are_refused(find, url):
  assert refusal(find, url).status == 400


def test_uploads_have_random_names_and_a_quota(store):
  stored = store.add_file(io.BytesIO(b"x" * 60), "../../etc/passwd")
  assert stored.path.name == stored.id and len(stored.id) > 30
  assert stored.name == "passwd"
  error = refusal(store.add_file, io.BytesIO(b"x" * 60), "b.mp4")
  assert error.status == 507 and store.bytes == 60
  store.remove(stored.id)
  assert store.bytes == 0 and not stored.path.exists()
  assert refusal(store.find_upload, stored.id).status == 404


def test_uploads_end_with_their_life_time(tmp_path, monkeypatch):
  store = UploadStore(100, 10, str(tmp_path))
  used = store.add_file(io.BytesIO(b"1"), "a")
  unused = store.add_file(io.BytesIO(b"2"), "b")
  used.created -= 20
  unused.created -= 20
  with store.in_use(used):
    assert [stored.id for stored in store.files()] == [used.id]
  assert store.files() == [] and store.bytes == 0 and not unused.path.exists()
  store.close()


@pytest.mark.parametrize("name, safe", [("a b.mp4", "a b.mp4"), ("<b>\n", "_b__"), ("", "file")])
def test_names_of_clients_mean_nothing(name, safe):
  assert safe_name(name) == safe


def test_urls_are_off_without_domains(find):
  assert refusal(find, "https://example.org/a.mp4").code == "remote_urls_off"


@pytest.mark.parametrize(
  "url",
  [
    "http://other.org/a.mp4",
    "http://example.org.evil.com/",
    "http://user:word@example.org/",
    "http://example.org:22/",
    "http://[::1]/",
    "http://127.0.0.1/",
    "http:///a",
  ],
)
def test_only_allowed_hosts_are_fetched(url):
  remote = RemoteMedia(["example.org", ".videos.net"], 100, 5)
  assert refusal(remote.fetch, url).status in (400, 403)


@pytest.mark.parametrize(
  "address, public",
  [
    ("93.184.216.34", True),
    ("2606:2800:220:1::1", True),
    ("127.0.0.1", False),
    ("10.1.2.3", False),
    ("169.254.169.254", False),
    ("100.64.0.1", False),
    ("0.0.0.0", False),
    ("224.0.0.1", False),
    ("::1", False),
    ("fe80::1", False),
    ("::ffff:10.0.0.1", False),
    ("64:ff9b::a00:1", False),
    ("2002:a00:1::", False),
  ],
)
def test_public_addresses(address, public):
  assert is_public(address) is public


def lookup(*addresses):
  """A stand-in for getaddrinfo."""
  return lambda *args, **options: [(0, 0, 0, "", (address, 80)) for address in addresses]


def test_a_host_with_one_private_address_is_refused(monkeypatch):
  monkeypatch.setattr(socket, "getaddrinfo", lookup("93.184.216.34", "10.0.0.1"))
  assert refusal(public_address, "example.org", 80).code == "host_not_allowed"


def test_a_look_up_that_hangs_ends_with_the_time_of_a_url(monkeypatch):
  never = threading.Event()
  monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: never.wait(10))
  media = RemoteMedia(["example.org"], 100, 0.05)
  assert refusal(media.fetch, "http://example.org/a.mp4").code == "fetch_timeout"
  never.set()


def serve_once(reply: bytes) -> int:
  """A local port that answers one connection."""
  listener = socket.create_server(("127.0.0.1", 0))

  def answer():
    with listener, listener.accept()[0] as client:
      client.recv(4096)
      client.sendall(reply)

  threading.Thread(target=answer, daemon=True).start()
  return listener.getsockname()[1]


@pytest.fixture
def fetch_from(monkeypatch):
  """Fetches http://example.org from a local port, as if its address were public."""

  def fetch(reply):
    port = serve_once(reply)
    monkeypatch.setattr(remote_media, "public_address", lambda host, port: "127.0.0.1")
    monkeypatch.setitem(remote_media._PORTS, "http", port)
    return RemoteMedia(["example.org"], 100, 5).fetch("http://example.org/a b.mp4?x=1")

  return fetch


def test_a_fetched_file_is_read_from_the_address_that_was_checked(fetch_from):
  with fetch_from(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as file:
    assert file.read() == b"hello"


def test_redirects_are_not_followed(fetch_from):
  reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
  assert "302" in str(refusal(fetch_from, reply))


def test_a_file_that_is_too_large_is_not_fetched(fetch_from):
  body = b"x" * 200
  reply = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + body
  assert refusal(fetch_from, reply).status == 413


def test_a_file_that_broke_off_is_no_file(fetch_from):
  error = refusal(fetch_from, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
  assert error.code == "fetch_failed" and "broke off" in str(error)


def test_a_file_that_is_removed_while_it_is_read_stays_until_then(store):
  stored = store.add_file(io.BytesIO(b"video"), "a.mp4")
  with store.in_use(stored):
    with store.in_use(stored):
      store.remove(stored.id)
    assert stored.path.read_bytes() == b"video" and store.bytes == 5
    assert refusal(store.remove, stored.id).status == 404 and store.files() == []
    with pytest.raises(RequestError, match="no such file"), store.in_use(stored):
      pass
  assert store.bytes == 0 and not stored.path.exists()


def test_an_upload_that_two_clients_remove_counts_once(store, monkeypatch):
  stored = store.add_file(io.BytesIO(b"video"), "a.mp4")
  both_found = threading.Barrier(2)
  find = store.remove_old  # Called before a file is taken out of the list.

  def wait():
    find()
    both_found.wait(10)

  monkeypatch.setattr(store, "remove_old", wait)
  refusals = []

  def remove():
    try:
      store.remove(stored.id)
    except RequestError as error:
      refusals.append(error.status)

  threads = [threading.Thread(target=remove) for _ in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert refusals == [404] and store.bytes == 0


def test_an_answer_may_take_longer_than_the_life_time_of_its_media(tmp_path):
  store = UploadStore(100, 10, str(tmp_path))
  sources = MediaSources(store, RemoteMedia((), 100, 5))
  reference = MediaReference(VIDEO, (HELLO,), FrameSettings(), "The video")
  with contextlib.ExitStack() as stack:
    sources.find_medium(reference, stack)
    for stored in store._files.values():
      stored.created -= 20
    stack.callback(store.remove_old)
  assert store.bytes == 0
  store.close()
