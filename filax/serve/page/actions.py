# SPDX-License-Identifier: Apache-2.0
"""What the page does: choose a video, ask, stop, begin anew. Knows nothing of gradio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
import dataclasses

from data_pipelines.sample import Turn
from data_pipelines.text import templates
from filax.evals.html_page import Markup
from filax.serve.engine import Engine
from filax.serve.page import drawings
from filax.serve.page.looks import LookSettings, VideoLook, VideoLooks
from filax.serve.page.talks import PageTalk, PageTalks, PickedVideo
from filax.serve.requests import AnswerRequest, AnswerSettings, RequestError, Usage

NO_VIDEO = "Choose a video first."
REDRAW_SECONDS = 0.1  # Between two updates of a short chat.
REDRAW_LETTERS = 8000  # Of a chat whose updates are twice as far apart.
TOO_LONG = "context_length_exceeded"  # The code of this error.
BUSY = "An answer is still being written. Stop it first, or wait."


@dataclasses.dataclass(frozen=True)
class PageControls:
  """The page's settings; None and "" leave one to the checkpoint."""

  look: LookSettings = dataclasses.field(default_factory=LookSettings)
  max_new_tokens: int | None = None
  temperature: float | None = None
  attention: bool = True  # Whether to measure which frames an answer looked at.


@dataclasses.dataclass(frozen=True)
class PageUpdate:
  """Parts of the page that change; None keeps a part."""

  chat: list[dict[str, str]] | None = None
  question: str | None = None
  status: Markup | None = None
  strip: Markup | None = None
  sheets: Markup | None = None
  phases: Markup | None = None
  running: bool | None = None  # Whether an answer is being written.


CLEARED = PageUpdate(
  chat=[],
  strip=drawings.NOTHING,
  sheets=drawings.NOTHING,
  phases=drawings.NOTHING,
)


class PageActions:
  """The actions of all open pages.

  `page` is the random id of one.
  """

  def __init__(self, engine: Engine, find_video: Callable[[str, str, str], PickedVideo]):
    """find_video: (kind, key, name) -> an upload or an example; raises RequestError."""
    self._engine = engine
    self._find_video = find_video
    self._looks = VideoLooks(engine)
    self.talks = PageTalks()

  async def choose_video(
    self, page: str, chosen: tuple[str, str, str], controls: PageControls
  ) -> AsyncIterator[PageUpdate]:
    """Begins a talk about a video.

    Shows what the model sees of it. chosen: (kind, key, name), for find_video.
    """
    try:
      video = self._find_video(*chosen)
    except RequestError as error:
      self.talks.begin(page, None)
      yield _failure(error)
      return
    talk = self.talks.begin(page, video)
    yield dataclasses.replace(
      CLEARED, status=drawings.sentence(f"Reading {video.name} …"), running=False
    )
    try:
      look = await self._looks.look(video.medium(controls.look.frames), controls.look)
    except RequestError as error:
      if self.talks.talk(page) is talk:
        self.talks.begin(page, None)
        yield _failure(error)
      return
    if self.talks.talk(page) is talk:
      talk.shown = controls.look
      yield PageUpdate(
        status=drawings.sentence(_read_text(video, look)),
        strip=drawings.heat_strip(look),
        sheets=drawings.contact_sheets(look),
      )

  async def ask(
    self, page: str, question: str, controls: PageControls
  ) -> AsyncIterator[PageUpdate]:
    """Streams an answer, then shows which frames it looked at."""
    question = question.strip()
    talk = self.talks.talk(page)
    refusal = self._refusal(talk, question)
    if refusal:
      yield PageUpdate(status=drawings.sentence(refusal, "error"))
      return
    answer = ""
    usage: Usage | None = None
    try:
      # Before the first update: while that is sent, a second click must find the answer.
      talk.handle = self._engine.submit(_request(talk, question, controls))
      talk.stopped = False
      yield PageUpdate(
        chat=talk.bubbles(question), question="", status=drawings.NOTHING, running=True
      )
      async for pieces in talk.handle.arrivals():
        if self.talks.talk(page) is not talk:  # The page shows another talk by now.
          break
        added = "".join(piece.text for piece in pieces)
        if added:
          answer += added
          chat = talk.bubbles(question, answer)
          yield PageUpdate(chat=chat)
          await asyncio.sleep(redraw_pause(chat))
      usage = _usage(talk)
    except RequestError as error:
      if self.talks.talk(page) is talk:
        failure = _failure(error)
        yield dataclasses.replace(failure, chat=talk.bubbles(), question=question)
        return
    finally:
      _end(talk)
    talk.turns.append((question, answer))
    shown = self.talks.talk(page)
    if shown is not talk:  # The last update may have reached the page after it began anew.
      yield PageUpdate(chat=shown.bubbles(), running=shown.handle is not None)
    else:
      status = drawings.sentence("Stopped.") if talk.stopped else drawings.NOTHING
      phases = drawings.NOTHING if usage is None else drawings.phase_table(usage)
      yield PageUpdate(chat=talk.bubbles(), status=status, phases=phases, running=False)
      async for update in self._evidence(page, talk, controls, usage):
        yield update

  async def _evidence(
    self, page: str, talk: PageTalk, controls: PageControls, usage: Usage | None
  ) -> AsyncIterator[PageUpdate]:
    """Shows which frames the last answer of a talk looked at."""
    if talk.video is None or not controls.attention:
      return
    *_, (_, answer) = talk.turns
    turns = _prompt_turns(talk.turns)
    try:
      look = await self._looks.look(talk.video.medium(controls.look.frames), controls.look)
      shares, seconds = await self._looks.measure_attention(look, turns, answer)
    except RequestError as error:
      yield dataclasses.replace(_failure(error), running=None)
      return
    if self.talks.talk(page) is not talk:
      return
    is_shown = talk.shown == controls.look  # Pictures are megabytes.
    talk.shown = controls.look
    yield PageUpdate(
      strip=drawings.heat_strip(look, shares),
      sheets=None if is_shown else drawings.contact_sheets(look),
      phases=None if usage is None else drawings.phase_table(usage, seconds),
    )

  def stop_answer(self, page: str) -> None:
    """Ends the answer that a page waits for."""
    self.talks.talk(page).end_answer()

  def begin_anew(self, page: str) -> PageUpdate:
    """Forgets the questions so far; the video stays."""
    talk = self.talks.talk(page)
    self.talks.begin(page, talk.video).shown = talk.shown
    return PageUpdate(
      chat=[], question="", status=drawings.NOTHING, phases=drawings.NOTHING, running=False
    )

  def _refusal(self, talk: PageTalk, question: str) -> str:
    """Why a question cannot be asked now; "" if it can."""
    if talk.handle is not None:
      return BUSY
    if not question:
      return "Write a question first."
    if talk.video is None and "encoder" in self._engine.session.params:
      return NO_VIDEO
    return ""


def redraw_pause(chat: Sequence[Mapping[str, str]]) -> float:
  """Seconds from one update of a chat to the next.

  A browser draws the whole chat anew at each update. If they came faster than that, they would wait
  in line there: a long answer would appear long after it was generated, and "Stop" would seem to do
  nothing.
  """
  letters = sum(len(bubble["content"]) for bubble in chat)
  return REDRAW_SECONDS * (1 + letters / REDRAW_LETTERS)


def _request(talk: PageTalk, question: str, controls: PageControls) -> AnswerRequest:
  """The engine's request for a question."""
  settings = AnswerSettings(
    max_new_tokens=controls.max_new_tokens, temperature=controls.temperature
  )
  look = controls.look
  return talk.request(
    question,
    settings,
    frames=look.frames,
    selector=look.selector,
    dropout=look.dropout,
  )


def _usage(talk: PageTalk) -> Usage | None:
  """What the talk's answer took; None if it was stopped."""
  if talk.handle is None:
    return None
  try:
    return talk.handle.usage
  except RuntimeError:
    return None


def _end(talk: PageTalk) -> None:
  """Forgets the handle, and cancels an answer that nobody waits for."""
  if talk.handle is not None:
    talk.handle.cancel()
  talk.handle = None


def _prompt_turns(turns: Sequence[tuple[str, str]]) -> tuple[Turn, ...]:
  """The turns of a talk up to its last question."""
  prompt: list[Turn] = []
  for question, answer in turns:
    if prompt:
      prompt.append(Turn("user", (question,)))
    else:
      prompt.extend(templates.question(question))
    prompt.append(Turn("assistant", (answer,)))
  return tuple(prompt[:-1])


def _failure(error: RequestError) -> PageUpdate:
  """What the page says about an error."""
  text = str(error)
  if error.code == TOO_LONG:
    text += " On this page: start over, or change the settings."
  return PageUpdate(status=drawings.sentence(text, "error"), running=False)


def _read_text(video: PickedVideo, look: VideoLook) -> str:
  frames = sum(map(len, look.times))
  return (
    f"{video.name}: {look.duration:.1f} seconds, {frames} frames shown as "
    f"{look.media.tokens} visual tokens."
  )
