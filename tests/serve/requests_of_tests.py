# SPDX-License-Identifier: Apache-2.0
"""Requests that the tests of serving share."""

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
