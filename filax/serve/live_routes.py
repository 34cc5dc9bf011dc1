# SPDX-License-Identifier: Apache-2.0
"""Live sessions over HTTP: frames arrive in requests, questions are asked in between.

  POST   /v1/live                          starts a session: {"id": ...}
  POST   /v1/live/{id}/frames              {"frames": [data URLs], "times": [seconds]}
  POST   /v1/live/{id}/chat/completions    a question, as for /v1/chat/completions
  GET    /v1/live/{id}                     what was seen and what is held
  DELETE /v1/live/{id}                     ends it

A session belongs to the key, or without one to the address, that started it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import hashlib
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
import numpy as np
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from data_pipelines.sample import Turn
from filax.infer.chat import StreamedAnswer
from filax.infer.live import LiveSession
from filax.infer.live_sessions import LiveSessionError, LiveSessions, TooManySessions
from filax.serve.chat_body import ChatBody, parse_body
from filax.serve.connection import CLIENT_LEFT, ClientLeft, read_json, while_connected
from filax.serve.engine import Engine
from filax.serve.json_numbers import is_number
from filax.serve.media_sources import data_content
from filax.serve.picture_bytes import read_frame
from filax.serve.preparation import check_text_length
from filax.serve.replies import ChatReply, error_fields, event
from filax.serve.requests import LENGTH, STOP, AnswerPiece, RequestError, Usage

_LATEST = 1e7  # Seconds, a third of a year.
_FRAMES_AT_A_TIME = 16  # Between two chunks of other requests.


class LiveRoutes:
  """The routes of live sessions, on the engine's device queue."""

  def __init__(self, engine: Engine, name: str):
    self._engine = engine
    self._name = name
    limits = engine.limits

    def make_session() -> LiveSession:
      return LiveSession(engine.session, tokens=limits.live_tokens)

    self._sessions = LiveSessions(make_session, limits.live_sessions, limits.live_seconds)

  def add_routes(self, app: FastAPI) -> None:
    """Adds the routes to an application."""
    routes = (
      ("POST", "/v1/live", self.start_session),
      ("GET", "/v1/live/{session_id}", self.show_session),
      ("DELETE", "/v1/live/{session_id}", self.end_session),
      ("POST", "/v1/live/{session_id}/frames", self.add_frames),
      ("POST", "/v1/live/{session_id}/chat/completions", self.chat),
    )
    for method, path, function in routes:
      app.add_api_route(path, function, methods=[method], response_model=None)

  def end_idle_sessions(self) -> None:
    """Frees the caches of sessions beyond their life time."""
    self._sessions.end_idle_sessions()

  async def start_session(self, request: Request) -> Response:
    """POST /v1/live"""
    owner = owner_of(request)
    name = await self._on_device(self._sessions.start_session, owner)
    return JSONResponse(await self._fields(name, owner), status_code=201)

  async def show_session(self, request: Request, session_id: str) -> Response:
    """GET /v1/live/{id}"""
    return JSONResponse(await self._fields(session_id, owner_of(request)))

  async def end_session(self, request: Request, session_id: str) -> Response:
    """DELETE /v1/live/{id}"""
    await self._on_device(self._sessions.end_session, session_id, owner_of(request))
    return JSONResponse(dict(id=session_id, object="live", deleted=True))

  async def add_frames(self, request: Request, session_id: str) -> Response:
    """POST /v1/live/{id}/frames"""
    owner = owner_of(request)
    session = await self._find(session_id, owner)
    body = await read_json(request)
    urls, times = _frames_of_body(body, self._engine.limits.live_frames)
    frames = await run_in_threadpool(self._read_frames, session, urls)  # All, before any is seen.
    for first in range(0, len(frames), _FRAMES_AT_A_TIME):
      part = slice(first, first + _FRAMES_AT_A_TIME)
      await self._on_device(session.append, frames[part], np.array(times[part]))
    return JSONResponse(await self._fields(session_id, owner))

  def _read_frames(self, session: LiveSession, urls: Sequence[str]) -> np.ndarray:
    """Pictures as the session's encoder takes them, uint8 [t size size 3]."""
    size = session.loaded.model.encoder.size
    resize = session.loaded.processor.resize
    frames = []
    for number, url in enumerate(urls):
      label = f"frames[{number}]"
      frames.append(read_frame(data_content(url), label, size, resize, self._engine.limits))
    return np.stack(frames)

  async def chat(self, request: Request, session_id: str) -> Response:
    """POST /v1/live/{id}/chat/completions"""
    session = await self._find(session_id, owner_of(request))
    body = await run_in_threadpool(parse_body, await read_json(request), self._engine.limits)
    body.check_model(self._name)
    question = _question_of_body(body)
    turns = [Turn("user", (question,))]
    await run_in_threadpool(check_text_length, session.loaded, turns)
    default_tokens = session.loaded.processor.infer["max_new_tokens"]
    settings = _settings_of_body(body, self._engine.limits.answer_tokens, default_tokens)
    streamed = await self._on_device(session.stream, question, **settings)
    pieces = self._pieces(streamed)
    reply = ChatReply(self._name, body.warnings)
    if body.stream:
      return StreamingResponse(
        self._events(session, streamed, pieces, reply, body),
        media_type="text/event-stream",
        background=BackgroundTask(self._close, streamed),  # If the stream was never begun.
      )
    try:
      received = await while_connected(request, _all_pieces(pieces))
    except ClientLeft:
      return Response(status_code=CLIENT_LEFT)
    finally:
      self._close(streamed)
    return JSONResponse(reply.whole_reply(received, _usage(session, streamed)))

  async def _pieces(self, streamed: StreamedAnswer) -> AsyncIterator[AnswerPiece]:
    """The pieces of an answer, each generated in turn with other requests."""
    texts = iter(streamed)
    while (text := await self._on_device(_next_text, texts)) is not None:
      yield AnswerPiece(0, text)
    yield AnswerPiece(0, "", STOP if streamed.answer.stopped else LENGTH)

  async def _events(
    self,
    session: LiveSession,
    streamed: StreamedAnswer,
    pieces: AsyncIterator[AnswerPiece],
    reply: ChatReply,
    body: ChatBody,
  ) -> AsyncIterator[bytes]:
    """The pieces as server-sent events."""
    try:
      yield event(reply.begin_chunk(0))
      async for piece in pieces:
        yield event(reply.piece_chunk(piece))
      if body.include_usage:
        yield event(reply.usage_chunk(_usage(session, streamed)))
      yield event("[DONE]")
    except RequestError as error:
      yield event(error_fields(error))
    finally:
      self._close(streamed)

  def _close(self, streamed: StreamedAnswer) -> None:
    """Ends an answer, without waiting for the device."""
    with contextlib.suppress(RequestError):  # The server is stopping.
      self._engine.on_device(streamed.close)

  async def _find(self, name: str, owner: str) -> LiveSession:
    """A session of an owner.

    In a thread, because it waits while another session is being started.
    """
    return await run_in_threadpool(_reported, self._sessions.find_session, name, owner)

  async def _fields(self, name: str, owner: str) -> dict[str, Any]:
    """The description of a session for its client."""
    session = await self._find(name, owner)
    return dict(
      id=name,
      object="live",
      model=self._name,
      seconds_of_life=self._engine.limits.live_seconds,
      **dataclasses.asdict(session.status),
    )

  async def _on_device(self, function: Callable, *args: Any, **settings: Any) -> Any:
    """The result of a function that has the device for itself."""
    task = functools.partial(_reported, function, *args, **settings)
    return await asyncio.wrap_future(self._engine.on_device(task))


def owner_of(request: Request) -> str:
  """A digest of the key, or of the client's address without one."""
  client = request.client.host if request.client else ""
  identity = request.headers.get("authorization") or client
  return hashlib.sha256(identity.encode()).hexdigest()


def _reported(function: Callable, *args: Any, **settings: Any) -> Any:
  """The result of a function of a session.

  Raises RequestError in place of its errors.
  """
  try:
    return function(*args, **settings)
  except RequestError:
    raise
  except TooManySessions as error:
    raise RequestError(str(error), status=429, code="too_many_sessions") from error
  except LiveSessionError as error:
    raise RequestError(str(error), status=404, code="session_not_found") from error
  except ValueError as error:
    raise RequestError(str(error)) from error
  except RuntimeError as error:
    raise RequestError(str(error), status=409, code="answer_open") from error


async def _all_pieces(pieces: AsyncIterator[AnswerPiece]) -> list[AnswerPiece]:
  return [piece async for piece in pieces]


def _next_text(texts: Iterator[str]) -> str | None:
  """The next piece of text; None at the end."""
  return next(texts, None)


def _frames_of_body(body: Any, most: int) -> tuple[list[str], list[float]]:
  """(data URLs, seconds) of a request. Raises RequestError."""
  if not isinstance(body, Mapping):
    raise RequestError("The body must be a JSON object.", code="invalid_json")
  urls = body.get("frames")
  times = body.get("times")
  if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
    raise RequestError("frames must be a list of data URLs of pictures.", parameter="frames")
  if not isinstance(times, list) or not all(map(_is_second, times)):
    raise RequestError("times must be a list of seconds from 0 on.", parameter="times")
  if len(urls) != len(times):
    raise RequestError(f"{len(urls)} frames need as many times, but these are {len(times)}.")
  if not 1 <= len(urls) <= most:
    raise RequestError(f"A request brings 1 to {most} frames (live_frames).", parameter="frames")
  if sorted(times) != times:
    raise RequestError("The times of frames must never fall.", parameter="times")
  return urls, times


def _is_second(value: Any) -> bool:
  return is_number(value) and 0 <= value <= _LATEST


def _question_of_body(body: ChatBody) -> str:
  """The text of the one message.

  Raises RequestError for media and other roles.
  """
  role, parts = body.messages[-1]
  if role != "user" or len(body.messages) > 1:
    raise RequestError(
      "A question to a live session is one message of the user; questions do not see one another.",
      parameter="messages",
    )
  if not all(isinstance(part, str) for part in parts):
    raise RequestError(
      "A question to a live session has no media: send frames to it.", parameter="messages"
    )
  return "\n".join(map(str, parts))


def _settings_of_body(body: ChatBody, most_tokens: int, default_tokens: int) -> dict[str, Any]:
  """The settings of LiveSession.stream. Raises RequestError for those that it lacks.

  default_tokens: of an answer to a request that does not say how many.
  """
  settings = body.settings
  if body.selector or body.dropout:
    raise RequestError("A live session takes no selector and no dropout.")
  if settings.answers != 1 or settings.repetition_penalty not in (None, 1.0):
    raise RequestError("A live session takes no n and no repetition_penalty.")
  if settings.max_new_tokens is not None and settings.max_new_tokens > most_tokens:
    raise RequestError(
      f"max_tokens={settings.max_new_tokens} is more than {most_tokens} (answer_tokens).",
      parameter="max_tokens",
    )
  return dict(
    max_new_tokens=settings.max_new_tokens or min(default_tokens, most_tokens),
    temperature=settings.temperature,
    top_p=settings.top_p,
    top_k=settings.top_k,
    min_p=settings.min_p,
    stop_strings=settings.stop_strings,
    seed=settings.seed,
  )


def _usage(session: LiveSession, streamed: StreamedAnswer) -> Usage:
  answer = streamed.answer
  return Usage(
    prompt_tokens=answer.prompt_tokens,
    visual_tokens=session.status.tokens,
    answer_tokens=answer.tokens,
    videos=(),
    seconds=answer.seconds,
  )
