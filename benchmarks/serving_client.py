# SPDX-License-Identifier: Apache-2.0
"""A running `filax serve`, and clients that ask it all at once."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import time
from typing import Any

import psutil

MOST_WAITING = 600


@dataclasses.dataclass(frozen=True)
class StreamedReply:
  """What a client saw of one streamed answer."""

  status: int
  first_seconds: float  # From the request to the first token.
  seconds: float
  tokens: int


@dataclasses.dataclass(frozen=True)
class RunningServer:
  """A server process and its address."""

  url: str
  process: psutil.Process

  def resident_bytes(self) -> int:
    """Memory of the process."""
    return self.process.memory_info().rss


@contextlib.contextmanager
def running_server(
  checkpoint: str, *options: str, with_page: bool = False
) -> Iterator[RunningServer]:
  """A server at a free port, inside a `with` block."""
  command = [sys.executable, "-m", "filax", "serve", "--checkpoint", checkpoint, "--port", "0"]
  limits = ["--limit", f"waiting={MOST_WAITING}", "--limit", "waiting_seconds=600"]
  page = [] if with_page else ["--no-page"]
  process = subprocess.Popen(
    [*command, *page, *limits, *options], stdout=subprocess.PIPE, text=True
  )
  try:
    line = process.stdout.readline() if process.stdout else ""
    match = re.search(r"http://\S+:\d+", line)
    if match is None:
      raise RuntimeError("The server did not start.")
    yield RunningServer(match[0], psutil.Process(process.pid))
  finally:
    process.terminate()
    process.wait(60)


def ask_all(
  url: str,
  bodies: Sequence[dict[str, Any]],
  clients: int,
  after_each: Callable[[int], None] | None = None,
) -> list[StreamedReply]:
  """Asks all requests, `clients` at a time.

  after_each: called with the number of replies so far.
  """
  return asyncio.run(_ask_all(url, bodies, clients, after_each))


async def _ask_all(url, bodies, clients, after_each) -> list[StreamedReply]:
  import httpx

  limits = httpx.Limits(max_connections=clients)
  places = asyncio.Semaphore(clients)
  replies: list[StreamedReply] = []
  async with httpx.AsyncClient(base_url=url, limits=limits, timeout=600) as client:

    async def ask_one(body: dict[str, Any]) -> None:
      async with places:
        replies.append(await _stream(client, body))
      if after_each is not None:
        after_each(len(replies))

    await asyncio.gather(*map(ask_one, bodies))
  return replies


async def _stream(client, body: dict[str, Any]) -> StreamedReply:
  """One request with its streamed answer."""
  body = body | dict(stream=True, stream_options=dict(include_usage=True))
  start = time.perf_counter()
  first = 0.0
  tokens = 0
  async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
    async for line in reply.aiter_lines():
      if not line.startswith("data: {"):
        continue
      first = first or time.perf_counter() - start
      usage = json.loads(line.removeprefix("data: ")).get("usage")
      if usage:
        tokens = usage["completion_tokens"]
  return StreamedReply(reply.status_code, first, time.perf_counter() - start, tokens)
