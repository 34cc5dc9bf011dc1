# SPDX-License-Identifier: Apache-2.0
"""Requests that the tests of serving share."""

import asyncio

from filax.serve.requests import (
  VIDEO,
  AnswerRequest,
  AnswerSettings,
  ChatMessage,
  FrameSettings,
  Medium,
)

ALL_FRAMES = FrameSettings()
QUESTION = "What shape is on red?"


def ask(text=QUESTION, video=None, *, frames=ALL_FRAMES, selector="", **settings):
  """A request of one question, about a video file or about none."""
  parts = [] if video is None else [Medium(VIDEO, (str(video),), frames, "The video")]
  message = ChatMessage("user", (*parts, text))
  return AnswerRequest((message,), AnswerSettings(**settings), selector=selector)


def whole_text(handle, index=0):
  """The text of one answer, to its end."""
  return "".join(piece.text for piece in handle if piece.index == index)


def post_and_leave(client, path: str, body: bytes) -> None:
  """Posts JSON as the `client`, and leaves when the reply begins, before its first event."""
  headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
  scope = dict(type="http", method="POST", path=path, query_string=b"", headers=headers)
  scope |= dict(client=("testclient", 50000))  # As of its other requests.
  messages = [dict(type="http.request", body=body)]
  replies = asyncio.Event()

  async def receive():
    if messages:
      return messages.pop()
    await replies.wait()  # Until the reply begins, the client is there.
    return dict(type="http.disconnect")

  async def send(message):
    replies.set()
    await asyncio.sleep(3600)

  client.portal.call(client.app, scope, receive, send)
