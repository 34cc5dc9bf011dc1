# SPDX-License-Identifier: Apache-2.0
"""Fetches media from allowed domains, and from nowhere else.

A name is looked up once, every address of it must be public, and the connection goes to the address
that was checked: a name that changes its address in between (DNS rebinding) gains nothing.
Redirects are refused.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
import contextlib
import http.client
import io
import ipaddress
import socket
import ssl
import tempfile
import threading
import time
from typing import BinaryIO
import urllib.parse

from filax.disk_errors import is_disk_full
from filax.serve.requests import RequestError

_PORTS = dict(http=80, https=443)
_PART = 1 << 16
_IN_MEMORY = 8 << 20  # Bytes of a file that need no file on disk.
_MOST_LOOKUPS = 32  # Of names at a time; the system's own time limit is minutes.
# Public ranges of IPv6 that hold private addresses of IPv4.
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")))


class RemoteMedia:
  """Reads URLs of http and https whose host is allowed.

  domains: "example.org" for this host, ".example.org" for all hosts below it, "*" for all public
  hosts; none refuses all.
  """

  def __init__(self, domains: Sequence[str], most_bytes: int, seconds: float):
    self._domains = tuple(domain.lower() for domain in domains)
    self._most_bytes = most_bytes
    self._seconds = seconds
    self._lookups = threading.BoundedSemaphore(_MOST_LOOKUPS)

  def fetch(self, url: str) -> BinaryIO:
    """The content of a URL, as a file to read. Raises RequestError."""
    parts = self._checked(url)
    deadline = time.monotonic() + self._seconds
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    try:
      address = self._look_up(host, port, deadline)
      return self._read(parts, host, port, address, deadline)
    except RequestError:
      raise
    except (OSError, http.client.HTTPException, ValueError) as error:
      if is_disk_full(error):
        raise
      if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
        raise self._too_slow() from error
      raise RequestError("The URL cannot be fetched.", code="fetch_failed") from error

  def _checked(self, url: str) -> urllib.parse.SplitResult:
    """The parts of an allowed URL."""
    if not self._domains:
      raise RequestError(
        "This server fetches no URLs. Send the file as a data URL or upload it; the server's owner "
        "can allow domains (--allow-domain).",
        status=403,
        code="remote_urls_off",
      )
    try:
      parts = urllib.parse.urlsplit(url)
      port = parts.port
    except ValueError as error:
      raise RequestError("The URL is malformed.", code="invalid_url") from error
    if parts.username is not None or parts.password is not None:
      raise RequestError("A URL must not hold a user or a password.", code="invalid_url")
    if port not in (None, 80, 443):
      raise RequestError("A URL must use port 80 or 443.", code="invalid_url")
    host = (parts.hostname or "").rstrip(".")
    if not host or not self._allows(host):
      raise RequestError(
        "This server does not fetch URLs of that host.", status=403, code="host_not_allowed"
      )
    return parts

  def _allows(self, host: str) -> bool:
    for domain in self._domains:
      if domain in ("*", host) or (domain.startswith(".") and host.endswith(domain)):
        return True
    return False

  def _look_up(self, host: str, port: int, deadline: float) -> str:
    """public_address(host, port), or TimeoutError at the deadline.

    The look-up itself cannot be ended: its thread is left behind, and only so many may be.
    """
    if not self._lookups.acquire(timeout=max(0.0, deadline - time.monotonic())):
      raise TimeoutError
    address: Future[str] = Future()

    def look_up() -> None:
      try:
        address.set_result(public_address(host, port))
      except BaseException as error:  # It belongs to whoever waits.
        address.set_exception(error)
      finally:
        self._lookups.release()

    threading.Thread(target=look_up, name="filax look-up", daemon=True).start()
    return address.result(max(0.0, deadline - time.monotonic()))

  def _too_slow(self) -> RequestError:
    return RequestError(
      f"Fetching the URL took more than {self._seconds:g} seconds (fetch_seconds).",
      status=504,
      code="fetch_timeout",
    )

  def _read(
    self, parts: urllib.parse.SplitResult, host: str, port: int, address: str, deadline: float
  ) -> BinaryIO:
    connection = _PinnedConnection(parts.scheme, host, port, address, deadline - time.monotonic())
    with contextlib.closing(connection), connection.ended_after(deadline - time.monotonic()):
      path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
      query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
      connection.request("GET", f"{path}?{query}" if query else path, headers={"Accept": "*/*"})
      response = connection.getresponse()
      if response.status != 200:
        raise RequestError(
          f"The URL answers with status {response.status}, and redirects are not followed.",
          code="fetch_failed",
        )
      target: BinaryIO = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # type: ignore[assignment]
      size = 0
      while content := response.read1(_PART):
        size += len(content)
        if size > self._most_bytes:
          raise RequestError(
            f"The URL has more than {self._most_bytes} bytes (file_bytes).",
            status=413,
            code="too_large",
          )
        target.write(content)
      if time.monotonic() >= deadline:
        raise self._too_slow()
      if response.length:  # Bytes that were announced and did not come.
        raise RequestError("The URL's file broke off before its end.", code="fetch_failed")
    target.seek(0, io.SEEK_SET)
    return target


def public_address(host: str, port: int) -> str:
  """An address of a host, all of whose addresses are public.

  Raises RequestError for a host with a private, local or reserved address, OSError for none.
  """
  addresses = []
  for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
    addresses.append(str(entry[4][0]).partition("%")[0])
  for address in addresses:
    if not is_public(address):
      raise RequestError(
        "This server does not fetch URLs of that host.", status=403, code="host_not_allowed"
      )
  if not addresses:
    raise OSError("The host has no address.")
  return addresses[0]


def is_public(address: str) -> bool:
  """Whether an IP address belongs to the public internet."""
  number = ipaddress.ip_address(address)
  if isinstance(number, ipaddress.IPv6Address):
    if number.ipv4_mapped is not None:
      return is_public(str(number.ipv4_mapped))
    if any(number in network for network in _TRANSLATED):
      return False
  return number.is_global and not number.is_multicast


class _PinnedConnection(http.client.HTTPConnection):
  """A connection to an address of a host that was checked."""

  def __init__(self, scheme: str, host: str, port: int, address: str, seconds: float):
    super().__init__(host, port, timeout=max(0.1, seconds))
    self._address = address
    self._wire: socket.socket | None = None  # `sock` is None while a last reply is read.
    self._is_late = False
    self._is_secure = scheme == "https"
    if self._is_secure:
      self.default_port = _PORTS["https"]

  @contextlib.contextmanager
  def ended_after(self, seconds: float) -> Iterator[None]:
    """Ends the connection after a time, however slowly bytes come."""
    timer = threading.Timer(max(0.0, seconds), self._end)
    timer.daemon = True
    timer.start()
    try:
      yield
    finally:
      timer.cancel()

  def _end(self) -> None:
    self._is_late = True
    if self._wire is not None:
      with contextlib.suppress(OSError):  # It has ended before.
        self._wire.shutdown(socket.SHUT_RDWR)

  def connect(self) -> None:
    """Connects to the address; a certificate must be the host's."""
    self.sock = socket.create_connection((self._address, self.port), self.timeout)
    if self._is_secure:
      context = ssl.create_default_context()
      self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
    self._wire = self.sock
    if self._is_late:
      raise TimeoutError
