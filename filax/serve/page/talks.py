# SPDX-License-Identifier: Apache-2.0
"""What each open page talks about, held by the server."""

import collections
import dataclasses

from filax.serve.engine import AnswerHandle
from filax.serve.page.looks import LookSettings
from filax.serve.requests import (
  VIDEO,
  AnswerRequest,
  AnswerSettings,
  ChatMessage,
  FrameSettings,
  Medium,
)

MOST_PAGES = 1000  # The pages that were open longest ago are forgotten.


@dataclasses.dataclass(frozen=True)
class PickedVideo:
  """A video that a page is about."""

  path: str
  name: str  # What the page calls it.
  is_lasting: bool = True  # False for an upload, which goes with the server.

  def medium(self, frames: int | None = None) -> Medium:
    """The video for the engine, with at most `frames` frames."""
    settings = FrameSettings(frames=frames)
    return Medium(VIDEO, (self.path,), settings, self.name, self.is_lasting)


@dataclasses.dataclass
class PageTalk:
  """The questions and answers about one video; another video begins another talk."""

  video: PickedVideo | None = None
  turns: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  shown: LookSettings | None = None  # Of the frames of the video that the page shows.
  handle: AnswerHandle | None = None  # Of the answer that is generated now.
  stopped: bool = False  # Whether a person ended that answer.

  def end_answer(self) -> None:
    """Ends the answer that is generated now, if any."""
    if self.handle is not None:
      self.stopped = True
      self.handle.cancel()

  def request(
    self,
    question: str,
    settings: AnswerSettings,
    *,
    frames: int | None = None,
    selector: str = "",
    dropout: str = "",
  ) -> AnswerRequest:
    """The talk up to a question, for the engine."""
    messages = []
    parts: tuple[str | Medium, ...] = ()
    if self.video is not None:
      parts = (self.video.medium(frames),)
    for earlier, answer in self.turns:
      messages.append(ChatMessage("user", (*parts, earlier)))
      messages.append(ChatMessage("assistant", (answer,)))
      parts = ()
    messages.append(ChatMessage("user", (*parts, question)))
    return AnswerRequest(tuple(messages), settings, selector, dropout)

  def bubbles(self, question: str = "", answer: str = "") -> list[dict[str, str]]:
    """Messages for the chat.

    All turns, then a question with what there is of its answer.
    """
    turns = list(self.turns)
    if question:
      turns.append((question, answer))
    messages = []
    for asked, answered in turns:
      messages.append(dict(role="user", content=asked))
      if answered:
        messages.append(dict(role="assistant", content=answered))
    return messages


class PageTalks:
  """The talk of each open page, by the page's random id."""

  def __init__(self, most: int = MOST_PAGES):
    self._most = most
    self._talks: collections.OrderedDict[str, PageTalk] = collections.OrderedDict()

  def talk(self, page: str) -> PageTalk:
    """The talk of a page; a new one for an unknown page."""
    if page not in self._talks:
      self.begin(page, None)
    self._talks.move_to_end(page)
    return self._talks[page]

  def begin(self, page: str, video: PickedVideo | None) -> PageTalk:
    """A new talk about a video; ends what the page generates."""
    self.leave(page)
    self._talks[page] = PageTalk(video)
    while len(self._talks) > self._most:
      oldest = next(iter(self._talks))
      self.leave(oldest)
    return self._talks[page]

  def leave(self, page: str) -> None:
    """Forgets a page that was closed, and ends what it generates."""
    talk = self._talks.pop(page, None)
    if talk is not None:
      talk.end_answer()
