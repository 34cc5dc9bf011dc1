# SPDX-License-Identifier: Apache-2.0
"""What routes do with a client's connection: read its JSON, and notice that it has left."""

import asyncio
from collections.abc import Awaitable
import json
import re
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from filax.serve.requests import RequestError

CLIENT_LEFT = 499  # Nobody reads this status.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # Half of a letter beyond 16 bits, as an escape.


class ClientLeft(Exception):
  """Nobody waits for the answer any more."""


async def while_connected(request: Request, work: Awaitable) -> Any:
  """The result of `work`. Raises ClientLeft if the client leaves before."""

  async def client_leaves() -> None:
    while (await request.receive())["type"] != "http.disconnect":
      pass

  working = asyncio.ensure_future(work)
  leaving = asyncio.ensure_future(client_leaves())
  try:
    await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
      return working.result()
    raise ClientLeft
  finally:
    for task in (working, leaving):
      task.cancel()


async def read_json(request: Request) -> Any:
  """The body of a request as JSON. Raises RequestError."""
  _check_header(request, "Content-Type", "application/json")
  _check_header(request, "Content-Encoding", "identity")
  content = await request.body()
  try:
    return await run_in_threadpool(_parse, content)
  except UnicodeEncodeError as error:
    text = "The body holds half of a surrogate pair, which is not a letter."
    raise RequestError(text, code="invalid_json") from error
  except json.JSONDecodeError as error:
    text = f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
    raise RequestError(text, code="invalid_json") from error
  except (ValueError, RecursionError) as error:
    raise RequestError("The body is not JSON in UTF-8.", code="invalid_json") from error


def _check_header(request: Request, name: str, only: str) -> None:
  """Raises RequestError if a header says anything else of the body."""
  value = request.headers.get(name, only).partition(";")[0].strip().lower()
  if value != only:
    text = f"The body has {name}: {value[:80]}. Send it with {name}: {only}."
    raise RequestError(text, status=415, code="unsupported_media_type")


def _parse(content: bytes) -> Any:
  """The value of JSON in UTF-8.

  Raises ValueError, and UnicodeEncodeError for a text that UTF-8 cannot write.
  """
  text = content.decode()
  value = json.loads(text)
  if _SURROGATE.search(text):
    json.dumps(value, ensure_ascii=False).encode()
  return value
