# SPDX-License-Identifier: Apache-2.0
"""Connections that send no request: closed after a time, and bounded in number."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from filax.serve.limits import ServingLimits


def bounded_protocol(limits: ServingLimits) -> type[asyncio.Protocol]:
  """The HTTP of uvicorn, with bounds on unused connections.

  A connection whose next request is not complete up to its body after `head_seconds` is closed, and
  one beyond `connections` at once. Between two requests, uvicorn's own time holds.
  """

  class BoundedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One connection."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
      super().connection_made(transport)
      if len(self.connections) > limits.connections:
        transport.close()
        return
      self._start_timer()

    def data_received(self, data: bytes) -> None:
      super().data_received(data)
      if self._timer is None and self._waits_for_head():
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
      if self._timer is not None:
        self._timer.cancel()
      super().connection_lost(exc)

    def _waits_for_head(self) -> bool:
      """Whether no request is being answered."""
      return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
      self._timer = self.loop.call_later(limits.head_seconds, self._end_wait)

    def _end_wait(self) -> None:
      """Closes the connection, unless a request came or uvicorn closes it soon."""
      self._timer = None
      if self._waits_for_head() and self.timeout_keep_alive_task is None:
        self.transport.close()

  return BoundedProtocol
