# SPDX-License-Identifier: Apache-2.0
"""Who may talk to the server: host, origin, key, and the size of bodies.

It stands before every route, those of the web page included.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
import dataclasses
import hmac
import ipaddress
import time
from typing import Any
import urllib.parse

from filax.serve.counters import ServingCounters
from filax.serve.limits import ServingLimits
from filax.serve.replies import error_bytes
from filax.serve.requests import RequestError

UPLOADS = "/v1/files"
_FORM_BYTES = 1 << 16  # Of a form around a file.
_SLOWEST = 1000  # Bytes a second of a body, after its first body_seconds.
_CLOSED = 1008  # The code of a WebSocket that breaks a rule.


@dataclasses.dataclass(frozen=True)
class GuardRules:
  """What the guard lets through."""

  key: str = ""  # "" = no key.
  hosts: tuple[str, ...] = ()  # Names under which the server is reached, beside localhost.
  origins: tuple[str, ...] = ()  # Web pages of elsewhere that may call it.


class Guard:
  """ASGI middleware that answers forbidden requests itself."""

  def __init__(self, app: Any, rules: GuardRules, limits: ServingLimits, counters: ServingCounters):
    self._app = app
    self._rules = rules
    self._limits = limits
    self._counters = counters
    self._held_bytes = 0  # Of the bodies of all requests that run.

  async def __call__(self, scope, receive, send) -> None:
    if scope["type"] == "lifespan":
      await self._app(scope, receive, send)
      return
    headers = _headers(scope)
    error = self._fault(scope, headers)
    send = _WatchedSend(send, self._counters)
    if error is None and scope["type"] == "http":
      body = _BoundedBody(receive, self, _most_bytes(scope, self._limits), _is_upload(scope))
      try:
        await self._app(scope, body, send)
      finally:
        self._held_bytes -= body.held_bytes
    elif error is None:
      await self._app(scope, receive, send)
    elif scope["type"] == "websocket":
      await send({"type": "websocket.close", "code": _CLOSED})
    else:
      await _send_error(send, error, headers)

  def _fault(self, scope, headers: dict[str, str]) -> RequestError | None:
    """Why a request is refused, or None."""
    host = headers.get("host", "")
    if not allowed_host(host, self._rules.hosts):
      return RequestError("This host name is not served here.", status=421, code="wrong_host")
    origin = headers.get("origin")
    if origin is not None and not self._allows_origin(origin, host):
      return RequestError("Other web pages may not call this server.", status=403, code="origin")
    is_preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers
    if self._rules.key and not is_preflight and not has_key(headers, self._rules.key):
      message = "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'."
      return RequestError(message, status=401, code="invalid_api_key")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
      return RequestError("Content-Length is not a number.", code="invalid_length")
    largest = _most_bytes(scope, self._limits)
    return too_large(largest) if int(length) > largest else None

  def hold_bytes(self, count: int) -> None:
    """Counts bytes of a body in memory. Raises RequestError for too many."""
    self._held_bytes += count
    if self._held_bytes > self._limits.bodies_bytes:
      text = "The server holds too many large requests (bodies_bytes). Try again later."
      raise RequestError(text, status=503, code="busy")

  @property
  def body_seconds(self) -> float:
    """The longest wait for a piece of a body."""
    return self._limits.body_seconds

  def _allows_origin(self, origin: str, host: str) -> bool:
    if origin in self._rules.origins:
      return True
    return urllib.parse.urlsplit(origin).netloc.lower() == host.lower() != ""


class _WatchedSend:
  """Counts the replies by status, and forbids browsers to guess their type."""

  def __init__(self, send, counters: ServingCounters):
    self._send = send
    self._counters = counters

  async def __call__(self, message: dict[str, Any]) -> None:
    if message["type"] == "http.response.start":
      self._counters.increase("filax_requests_total", 1, f'{{status="{message["status"]}"}}')
      headers = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
      message = dict(message, headers=headers)
    await self._send(message)


class _BoundedBody:
  """A request's body that may be neither too long nor too slow.

  Uploaded files are not held in memory, and are bounded by the quota of uploads.
  """

  def __init__(self, receive, guard: Guard, largest: int, is_upload: bool):
    self._receive = receive
    self._guard = guard
    self._largest = largest
    self._is_upload = is_upload
    self._bytes = 0
    self._start = time.monotonic()
    self._complete = False
    self.held_bytes = 0

  async def __call__(self) -> dict[str, Any]:
    if self._complete:  # From now on it waits for the client to leave.
      return await self._receive()
    seconds = self._guard.body_seconds
    longest = self._start + seconds + self._bytes / _SLOWEST - time.monotonic()
    try:
      message = await asyncio.wait_for(self._receive(), min(seconds, longest))
    except TimeoutError as error:
      text = (
        f"The body comes too slowly: no byte for {seconds:g} seconds (body_seconds), or less than "
        f"{_SLOWEST} bytes a second."
      )
      raise RequestError(text, status=408, code="body_timeout") from error
    count = len(message.get("body", b""))
    self._bytes += count
    self._complete = not message.get("more_body", False)
    if self._bytes > self._largest:
      raise too_large(self._largest)
    if not self._is_upload:
      self.held_bytes += count
      self._guard.hold_bytes(count)
    return message


def too_large(largest: int) -> RequestError:
  """The error of a body beyond the limit."""
  return RequestError(
    f"The body is larger than {largest} bytes (body_bytes; file_bytes of an upload).",
    status=413,
    code="too_large",
  )


def _is_upload(scope) -> bool:
  return scope.get("path") == UPLOADS


def _most_bytes(scope, limits: ServingLimits) -> int:
  """The largest body of a request."""
  return limits.file_bytes + _FORM_BYTES if _is_upload(scope) else limits.body_bytes


def allowed_host(header: str, names: Sequence[str]) -> bool:
  """Whether a Host header names this server.

  Addresses and localhost do, and `names`; other names could be those of an attacker's page whose
  address changed to ours (DNS rebinding).
  """
  try:
    host = urllib.parse.urlsplit(f"//{header}").hostname or ""
  except ValueError:
    return False
  if host == "localhost" or host in map(str.lower, names):
    return True
  try:
    ipaddress.ip_address(host)
  except ValueError:
    return False
  return True


def page_origin(url: str) -> str:
  """The origin of a page: "https://a.org" of "https://A.org/page"."""
  parts = urllib.parse.urlsplit(url)
  return f"{parts.scheme}://{parts.netloc}".lower() if parts.netloc else url


def has_key(headers: dict[str, str], key: str) -> bool:
  """Whether a request has the key, as Bearer or password of Basic.

  Browsers ask for a password and send Basic, which opens the web page.
  """
  kind, _, value = headers.get("authorization", "").partition(" ")
  value = value.strip()
  if kind.lower() == "basic":
    try:
      value = base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
      return False
  elif kind.lower() != "bearer":
    return False
  return hmac.compare_digest(value.encode(), key.encode())


def _headers(scope) -> dict[str, str]:
  headers = {}
  for name, value in scope["headers"]:
    headers[name.decode("latin-1").lower()] = value.decode("latin-1")
  return headers


async def _send_error(send, error: RequestError, headers: dict[str, str]) -> None:
  fields = [(b"content-type", b"application/json"), (b"connection", b"close")]
  if error.status == 401:
    is_browser = "text/html" in headers.get("accept", "")
    scheme = b'Basic realm="FiLax"' if is_browser else b"Bearer"
    fields.append((b"www-authenticate", scheme))
  await send({"type": "http.response.start", "status": error.status, "headers": fields})
  await send({"type": "http.response.body", "body": error_bytes(error)})
