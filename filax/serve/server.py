# SPDX-License-Identifier: Apache-2.0
"""Runs the server until a signal stops it."""

import asyncio
import contextlib
import dataclasses
import importlib.util
import ipaddress
import math
import os
import signal
import socket
import sys
from typing import NoReturn

from starlette.concurrency import run_in_threadpool
import uvicorn

from filax import host_limits
from filax.infer.session import Session
from filax.serve.app import ChatServer, build_app, model_name
from filax.serve.engine import Engine
from filax.serve.guard import GuardRules, page_origin
from filax.serve.http_protocol import bounded_protocol
from filax.serve.limits import ServingLimits
from filax.serve.media_sources import MediaSources
from filax.serve.remote_media import RemoteMedia
from filax.serve.requests import AnswerRequest, AnswerSettings, ChatMessage, RequestError
from filax.serve.uploads import UploadStore

KEY_VARIABLE = "FILAX_API_KEY"
PAGE = "filax.serve.page"
_LAST_SECONDS = 5  # After the time to stop: for the ends of replies, and for the device.


@dataclasses.dataclass(frozen=True)
class ServerOptions:
  """Where a server listens, and what it may read."""

  host: str = "127.0.0.1"
  port: int = 8000  # 0 = any free one.
  name: str = ""  # Of the model; default: the checkpoint's folder.
  key: str = ""
  hosts: tuple[str, ...] = ()
  origins: tuple[str, ...] = ()
  domains: tuple[str, ...] = ()  # Whose URLs are fetched.
  media_folder: str = ""
  upload_folder: str = ""
  encode_cache: str = ""
  fixed_batch: bool = False
  page: bool = True
  stop_seconds: float = 30.0


def run_server(session: Session, options: ServerOptions, limits: ServingLimits) -> None:
  """Serves until SIGTERM or SIGINT, then finishes what runs.

  Raises ValueError for an address beyond this machine without a key, OSError if it is taken.
  """
  check_binding(options)
  host_limits.allow_open_files(2 * limits.connections)
  engine = Engine(
    session, limits, encode_cache=options.encode_cache, fixed_batch=options.fixed_batch
  )
  warm_up(engine)
  uploads = UploadStore(limits.upload_bytes, limits.upload_seconds, options.upload_folder)
  remote = RemoteMedia(options.domains, limits.file_bytes, limits.fetch_seconds)
  sources = MediaSources(uploads, remote, options.media_folder)
  name = options.name or model_name(session.processor.source)
  origins = tuple(map(page_origin, options.origins))
  rules = GuardRules(options.key, (options.host, *options.hosts), origins)
  app = build_app(ChatServer(engine, sources, uploads, name), rules, options.stop_seconds)
  has_page = options.page and can_show_page()
  if has_page:
    from filax.serve.page.mount import mount_page

    mount_page(app, engine, limits, uploads)
  config = uvicorn.Config(
    app,
    host=options.host,
    port=options.port,
    http=bounded_protocol(limits),
    log_level="error",  # Warnings are about requests that break HTTP, as many as clients like.
    access_log=False,
    server_header=False,
    ws="none",
    timeout_keep_alive=75,  # Seconds; clients reuse a connection that was idle for shorter.
    timeout_graceful_shutdown=math.ceil(options.stop_seconds) + _LAST_SECONDS,
  )
  signal.signal(signal.SIGTERM, _stay_quiet)  # uvicorn raises the signal again when it has stopped.
  try:
    with contextlib.suppress(KeyboardInterrupt):  # So does asyncio, with SIGINT.
      _AnnouncedServer(config, name, has_page, engine, options.stop_seconds).run()
  finally:
    engine.close(0)
    uploads.close()
  if not engine.close(_LAST_SECONDS):
    _leave_at_once()


def check_address(options: ServerOptions) -> None:
  """Checks the key and the address, before a model is loaded.

  Raises ValueError for a key that no client can send, for an address beyond this machine without a
  key, and for one that is taken or does not exist.
  """
  check_key(options.key)
  check_binding(options)
  try:
    entries = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    family, kind, *_, address = entries[0]
    with socket.socket(family, kind) as probe:
      probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      probe.bind(address)
  except OSError as error:
    raise ValueError(
      f"--host {options.host} --port {options.port} cannot be used ({error.strerror}). Another "
      "server may listen there: choose another port, or --port 0 for a free one."
    ) from error


def check_media_folder(folder: str) -> None:
  """Raises ValueError for a folder whose files no request could name."""
  if folder and not os.path.isdir(folder):
    raise ValueError(f"--media-folder {folder} is not a folder. Name the folder of your media.")


def check_key(key: str) -> None:
  """Raises ValueError for a key that headers of HTTP cannot hold."""
  if not key.isascii() or not key.isprintable():
    raise ValueError(
      f"{KEY_VARIABLE} holds characters that a client cannot send. Set it to letters and digits, "
      "such as those that `openssl rand -hex 32` prints."
    )


def check_binding(options: ServerOptions) -> None:
  """Raises ValueError for an address beyond this machine without a key."""
  if options.key or options.host == "localhost":
    return
  with contextlib.suppress(ValueError):
    if ipaddress.ip_address(options.host).is_loopback:
      return
  raise ValueError(
    f"--host {options.host} can be reached from other machines, and there is no key. Set the "
    f"environment variable {KEY_VARIABLE}, or take --host 127.0.0.1."
  )


def warm_up(engine: Engine) -> None:
  """Answers a short question, so that the programs of text are compiled."""
  message = ChatMessage("user", ("Hello",))
  settings = AnswerSettings(max_new_tokens=2, temperature=0.0)
  with contextlib.suppress(RequestError):
    for _ in engine.submit(AnswerRequest((message,), settings)):
      pass


def can_show_page() -> bool:
  """Whether the web page and its library are installed."""
  return all(importlib.util.find_spec(name) for name in (PAGE, "gradio"))


class _AnnouncedServer(uvicorn.Server):
  """A server that says where it listens, and ends late answers."""

  def __init__(
    self, config: uvicorn.Config, name: str, has_page: bool, engine: Engine, stop_seconds: float
  ):
    super().__init__(config)
    self._name = name
    self._has_page = has_page
    self._engine = engine
    self._stop_seconds = stop_seconds

  async def startup(self, sockets=None) -> None:
    """Listens, and prints the address."""
    await super().startup(sockets)
    if not self.started or not self.servers:
      return
    host, port = self.servers[0].sockets[0].getsockname()[:2]
    if ":" in host:
      host = f"[{host}]"
    page = f"The page is at http://{host}:{port}/." if self._has_page else ""
    print(f"{self._name} answers at http://{host}:{port}/v1. {page}".rstrip(), flush=True)

  async def shutdown(self, sockets=None) -> None:
    """Stops when the last answer has ended."""
    ending = asyncio.create_task(self._end_late_answers())
    await super().shutdown(sockets)
    ending.cancel()

  async def _end_late_answers(self) -> None:
    """Ends what runs too long, before uvicorn cuts its connection."""
    await asyncio.sleep(self._stop_seconds)
    await run_in_threadpool(self._engine.close, 0)


def _leave_at_once() -> NoReturn:
  """Ends the process while the device still computes.

  Python's own end would abort it.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(0)


def _stay_quiet(number, frame) -> None:
  """Takes a signal that has already been served."""
