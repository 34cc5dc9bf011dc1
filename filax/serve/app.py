# SPDX-License-Identifier: Apache-2.0
"""The routes of the server: OpenAI's chat completions, models and files, health and metrics."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
import contextlib
import os
import re
import sys
import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from filax.disk_errors import disk_sentence, is_disk_full
from filax.serve.chat_body import ChatBody, parse_body
from filax.serve.connection import CLIENT_LEFT, ClientLeft, read_json, while_connected
from filax.serve.engine import Engine
from filax.serve.guard import Guard, GuardRules
from filax.serve.handle import AnswerHandle
from filax.serve.live_routes import LiveRoutes
from filax.serve.media_sources import MediaSources
from filax.serve.replies import ChatReply, error_fields, event, file_fields
from filax.serve.requests import AnswerPiece, AnswerRequest, RequestError
from filax.serve.uploads import REQUEST, UploadStore

_CLEANING_SECONDS = 60.0
_UPLOADS_AT_A_TIME = 4
_CHARSET = re.compile(r"""charset[*0-9]*\s*=\s*"?([^\s;"]*)""", re.IGNORECASE)


class ChatServer:
  """What the routes share."""

  def __init__(self, engine: Engine, sources: MediaSources, uploads: UploadStore, name: str):
    self.engine = engine
    self.limits = engine.limits
    self.uploads = uploads
    self.name = name
    self.created = int(time.time())
    self._sources = sources
    self._uploading = asyncio.Semaphore(_UPLOADS_AT_A_TIME)

  async def chat(self, request: Request) -> Response:
    """POST /v1/chat/completions"""
    body = await run_in_threadpool(parse_body, await read_json(request), self.limits)
    body.check_model(self.name)
    files = contextlib.ExitStack()
    try:
      question = await run_in_threadpool(self._question, body, files)
      handle = await run_in_threadpool(self.engine.submit, question)
    except BaseException:
      files.close()
      raise
    answer = _Answer(handle, files, ChatReply(self.name, body.warnings), body)
    return await answer.reply(request)

  def _question(self, body: ChatBody, files: contextlib.ExitStack) -> AnswerRequest:
    """The request of a body, with its media fetched."""

    def find_medium(reference):
      return self._sources.find_medium(reference, files)

    return body.request(find_medium)

  async def upload(self, request: Request) -> Response:
    """POST /v1/files"""
    _check_charset(request.headers.get("content-type", ""))
    async with self._uploading, request.form(max_files=1, max_fields=8) as form:
      file = form.get("file")
      if file is None or isinstance(file, str):
        raise RequestError("The form needs a field 'file' with a file.", parameter="file")
      purpose = str(form.get("purpose") or "user_data")[:64]
      if purpose == REQUEST:
        raise RequestError(f"purpose={purpose!r} cannot be used.", parameter="purpose")
      stored = await run_in_threadpool(
        self.uploads.add_file, file.file, file.filename or "file", purpose
      )
    return JSONResponse(file_fields(stored, self.limits.upload_seconds))

  async def files(self) -> Response:
    """GET /v1/files"""
    stored_files = await run_in_threadpool(self.uploads.files)
    rows = [file_fields(stored, self.limits.upload_seconds) for stored in stored_files]
    return JSONResponse(dict(object="list", data=rows, has_more=False))

  async def file(self, file_id: str) -> Response:
    """GET /v1/files/{file_id}"""
    stored = await run_in_threadpool(self.uploads.find_upload, file_id)
    return JSONResponse(file_fields(stored, self.limits.upload_seconds))

  async def remove_file(self, file_id: str) -> Response:
    """DELETE /v1/files/{file_id}"""
    await run_in_threadpool(self.uploads.remove, file_id)
    return JSONResponse(dict(id=file_id, object="file", deleted=True))

  async def models(self) -> Response:
    """GET /v1/models"""
    return JSONResponse(dict(object="list", data=[self._model_fields()]))

  async def model(self, name: str) -> Response:
    """GET /v1/models/{name}"""
    if name != self.name:
      raise RequestError("There is no such model here.", status=404, code="model_not_found")
    return JSONResponse(self._model_fields())

  def _model_fields(self) -> dict[str, Any]:
    return dict(id=self.name, object="model", created=self.created, owned_by="filax")

  async def health(self) -> Response:
    """GET /health"""
    alive = self.engine.is_alive
    fields = dict(status="ok" if alive else "stopping", model=self.name)
    return JSONResponse(fields, status_code=200 if alive else 503)

  async def metrics(self) -> Response:
    """GET /metrics"""
    gauges = self.engine.gauges() | dict(filax_upload_bytes=self.uploads.bytes)
    text = self.engine.counters.prometheus_text(gauges)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _check_charset(content_type: str) -> None:
  """Raises RequestError for a form that is not in UTF-8.

  Some of Python's codecs take minutes for a megabyte, or write what JSON cannot hold.
  """
  for charset in _CHARSET.findall(content_type):
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
      raise RequestError(f"The form has charset {charset[:40]!r}, but it must be utf-8.")


class _Answer:
  """The reply to one chat request; closes its files when it ends."""

  def __init__(
    self, handle: AnswerHandle, files: contextlib.ExitStack, reply: ChatReply, body: ChatBody
  ):
    self._handle = handle
    self._files = files
    self._reply = reply
    self._body = body
    self._arrivals = handle.arrivals()

  async def reply(self, request: Request) -> Response:
    """The response. Raises RequestError before its first byte."""
    try:
      if self._body.stream:  # An error before the first piece has a status of its own.
        first = await while_connected(request, anext(self._arrivals))
        return StreamingResponse(
          self._events(first),
          media_type="text/event-stream",
          background=BackgroundTask(self._close),  # If the stream was never begun.
        )
      pieces = await while_connected(request, self._all_pieces())
      reply = self._reply.whole_reply(pieces, self._handle.usage)
    except ClientLeft:
      self._close()
      return Response(status_code=CLIENT_LEFT)
    except BaseException:
      self._close()
      raise
    self._close()
    return JSONResponse(reply)

  async def _all_pieces(self) -> list[AnswerPiece]:
    pieces = []
    async for arrived in self._arrivals:
      pieces.extend(arrived)
    return pieces

  async def _events(self, first: Sequence[AnswerPiece]) -> AsyncIterator[bytes]:
    """The pieces as server-sent events; those that come together are one write."""
    try:
      beginnings = map(self._reply.begin_chunk, range(self._body.settings.answers))
      yield _joined([*beginnings, *map(self._reply.piece_chunk, first)])
      async for pieces in self._arrivals:
        yield _joined(map(self._reply.piece_chunk, pieces))
      end: list[Mapping[str, Any] | str] = ["[DONE]"]
      if self._body.include_usage:
        end.insert(0, self._reply.usage_chunk(self._handle.usage))
      yield _joined(end)
    except RequestError as error:
      yield event(error_fields(error))
    finally:
      self._close()

  def _close(self) -> None:
    if not self._handle.ended:
      self._handle.cancel()
    self._files.close()


def _joined(events: Iterable[Mapping[str, Any] | str]) -> bytes:
  """Several server-sent events."""
  return b"".join(map(event, events))


def build_app(server: ChatServer, rules: GuardRules, stop_seconds: float = 30.0) -> FastAPI:
  """The application with all routes behind the guard.

  When it stops, the engine finishes what runs, for at most `stop_seconds`.
  """

  live = LiveRoutes(server.engine, server.name)

  @contextlib.asynccontextmanager
  async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    cleaning = asyncio.create_task(_clean(server.uploads, live))
    yield
    cleaning.cancel()
    await run_in_threadpool(server.engine.close, stop_seconds)
    server.uploads.close()

  app = FastAPI(title="FiLax", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
  routes = (
    ("POST", "/v1/chat/completions", server.chat),
    ("GET", "/v1/models", server.models),
    ("GET", "/v1/models/{name:path}", server.model),
    ("POST", "/v1/files", server.upload),
    ("GET", "/v1/files", server.files),
    ("GET", "/v1/files/{file_id}", server.file),
    ("DELETE", "/v1/files/{file_id}", server.remove_file),
    ("GET", "/health", server.health),
    ("GET", "/metrics", server.metrics),
  )
  for method, path, function in routes:
    methods = ["GET", "HEAD"] if method == "GET" else [method]
    app.add_api_route(path, function, methods=methods, response_model=None)
  live.add_routes(app)
  # Other calls of OpenAI's API: the web page, if there is one, would take them for its own.
  paths = {path for _, path, _ in routes}

  async def refuse_call(request: Request) -> Response:
    raise HTTPException(405 if request.url.path in paths else 404)

  every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
  app.add_api_route("/v1/{path:path}", refuse_call, methods=every, response_model=None)
  app.add_exception_handler(RequestError, _reply_to_error)
  app.add_exception_handler(HTTPException, _reply_to_wrong_route)
  app.add_exception_handler(OSError, _reply_to_full_disk)
  app.add_exception_handler(Exception, _reply_to_failure)
  if rules.origins:
    app.add_middleware(
      CORSMiddleware, allow_origins=list(rules.origins), allow_methods=["*"], allow_headers=["*"]
    )
  app.add_middleware(Guard, rules=rules, limits=server.limits, counters=server.engine.counters)
  return app


async def _clean(uploads: UploadStore, live: LiveRoutes) -> None:
  """Removes what is beyond its life time, again and again."""
  while True:
    await asyncio.sleep(_CLEANING_SECONDS)
    await run_in_threadpool(uploads.remove_old)
    await run_in_threadpool(live.end_idle_sessions)


async def _reply_to_error(_: Request, error: Exception) -> Response:
  if not isinstance(error, RequestError):
    raise error
  headers = {"retry-after": "5"} if error.status in (429, 503) else {}
  return JSONResponse(error_fields(error), status_code=error.status, headers=headers)


async def _reply_to_wrong_route(request: Request, error: Exception) -> Response:
  status = error.status_code if isinstance(error, HTTPException) else 500
  message = error.detail if isinstance(error, HTTPException) else ""
  if status in (404, 405):
    message = f"{request.method} {request.url.path[:100]} is not served here."
  fault = RequestError(message, status=status)
  fault.code = "not_found" if status == 404 else "invalid_request"
  return JSONResponse(error_fields(fault), status_code=status)


async def _reply_to_full_disk(_: Request, error: Exception) -> Response:
  if not is_disk_full(error):
    raise error
  print(f"filax serve: {disk_sentence(error)}", file=sys.stderr, flush=True)
  fault = RequestError("The server has no room for files now. Try again later.", status=507)
  fault.code = "no_room"
  return JSONResponse(error_fields(fault), status_code=fault.status)


async def _reply_to_failure(_: Request, error: Exception) -> Response:
  del error  # Its traceback is logged.
  fault = RequestError("The server failed; its log has the reason.", status=500)
  fault.code = "internal_error"
  return JSONResponse(error_fields(fault), status_code=500)


def model_name(source: str) -> str:
  """The last part of a checkpoint's path, which names the model."""
  return os.path.basename(os.path.normpath(source)) if source else "filax"
