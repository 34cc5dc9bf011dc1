# SPDX-License-Identifier: Apache-2.0
"""Connections that send nothing, or too slowly, and those beyond the bound."""

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time

import pytest
import uvicorn

from filax.serve.counters import ServingCounters
from filax.serve.guard import Guard, GuardRules, allowed_host, page_origin
from filax.serve.http_protocol import bounded_protocol
from filax.serve.limits import ServingLimits

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMITS = ServingLimits(head_seconds=0.4, connections=3)


async def slow_app(scope, receive, send):
  """Answers after twice head_seconds."""
  await asyncio.sleep(2 * LIMITS.head_seconds)
  await send(dict(type="http.response.start", status=200, headers=[(b"content-length", b"5")]))
  await send(dict(type="http.response.body", body=b"hello"))


@contextlib.contextmanager
def serving(limits):
  """The address of a server in a thread."""
  config = uvicorn.Config(
    slow_app, port=0, http=bounded_protocol(limits), lifespan="off", log_level="critical"
  )
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run, daemon=True)
  thread.start()
  while not server.started:
    time.sleep(0.01)
  yield server.servers[0].sockets[0].getsockname()
  server.should_exit = True
  thread.join(10)


@pytest.fixture(scope="module")
def address():
  with serving(LIMITS) as address:
    yield address


@contextlib.contextmanager
def connected(address, content=b""):
  with socket.create_connection(address, timeout=10) as client:
    client.sendall(content)
    yield client


def received(client):
  """What comes before the server closes the connection."""
  content = b""
  with contextlib.suppress(ConnectionResetError):
    while part := client.recv(4096):
      content += part
  return content


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_connection_without_a_request_is_closed(address, content):
  with connected(address, content) as client:
    assert received(client) == b""


def test_an_answer_may_take_longer(address):
  with connected(address, REQUEST) as client:
    assert client.recv(4096).endswith(b"hello")


def test_half_a_second_request_is_closed_too(address):
  with connected(address, REQUEST) as client:
    client.recv(4096)
    client.sendall(b"GET / HTTP")
    assert received(client) == b""


def test_connections_beyond_the_bound_are_closed_at_once():
  patient = dataclasses.replace(LIMITS, head_seconds=30.0)
  with contextlib.ExitStack() as stack:
    address = stack.enter_context(serving(patient))
    for _ in range(patient.connections):
      stack.enter_context(connected(address, REQUEST))
    with connected(address) as client:
      assert received(client) == b"", "closed before the ten seconds of `connected`"


async def reading_app(scope, receive, send):
  """Reads the whole body."""
  while (await receive()).get("more_body"):
    pass


def test_a_body_that_drips_ends_with_an_error():
  async def drip():
    await asyncio.sleep(0.05)
    return dict(type="http.request", body=b"x", more_body=True)

  async def ignore(message):
    del message

  limits = ServingLimits(body_seconds=0.2)
  guard = Guard(reading_app, GuardRules(), limits, ServingCounters())
  scope = dict(type="http", method="POST", path="/", headers=[(b"host", b"localhost")])
  with pytest.raises(ValueError, match="comes too slowly"):
    asyncio.run(asyncio.wait_for(guard(scope, drip, ignore), 10))


def test_names_of_hosts_and_origins_have_no_case():
  assert allowed_host("myserver:8000", ("MyServer",))
  assert not allowed_host("myserver.evil.org", ("MyServer",))
  origins = ["https://A.org", "https://a.org/", "https://a.org/page?x"]
  assert [page_origin(url) for url in origins] == ["https://a.org"] * 3
  assert page_origin("*") == "*" and page_origin("http://a.org:80") == "http://a.org:80"
