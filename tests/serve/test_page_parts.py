# SPDX-License-Identifier: Apache-2.0
"""Parts of the web page without a browser: examples, drawings, talks."""

import asyncio
import json
import types

import numpy as np
import pytest

from filax.serve.page import actions, drawings, examples, talks
from filax.serve.page.looks import SheetFrame, VideoLook
from filax.serve.requests import VIDEO, AnswerSettings, EffectiveVideo, RequestError, Usage

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def look():
  processor = types.SimpleNamespace(infer=dict(selector=dict(name=EVIL)))
  loaded = types.SimpleNamespace(processor=processor)  # As much of it as a drawing asks for.
  times = [[1.0, 2.0], [5.0, 7.0], [60.0, 61.0]]
  frames = [[SheetFrame(second, "data:,") for second in group] for group in times]
  return VideoLook(loaded, None, 120.0, times, frames, frames)


def test_heat_strip_has_a_bar_for_every_frame(look):
  strip = drawings.heat_strip(look, np.array([0.5, 0.1, 0.4]))
  assert strip.count("data-seconds") == 6
  assert '--place:50.00%;--heat:0.800" title="1:00, 40.0%' in strip
  assert "Most, 50%, on the group around 0:02" in strip


def test_long_heat_strips_keep_the_strongest_bars(look):
  seconds = [[float(second)] for second in range(1000)]
  long = VideoLook(look.loaded, None, 1000.0, seconds, [], [])
  shares = np.full(1000, 1e-4)
  shares[503] = 0.9
  strip = drawings.heat_strip(long, shares)
  assert strip.count("data-seconds") == drawings.MOST_MARKS
  assert 'data-seconds="503.000"' in strip


def test_contact_sheets_stand_side_by_side(look):
  sheets = drawings.contact_sheets(look)
  assert sheets.count('class="sheet"') == 2
  assert "Uniform sampling" in sheets and "3 groups of 2 frames" in sheets
  assert sheets.count('class="heat"') == 3  # Attention is on the model's groups alone.
  strip = drawings.heat_strip(look, np.array([0.5, 0.1, 0.4]))
  assert "<style>.filax-sheets{--heat0:1.000;--heat1:0.200;--heat2:0.800}</style>" in strip


def test_names_are_escaped(look):
  sheets = drawings.contact_sheets(look)
  assert EVIL not in sheets and "&lt;script&gt;" in sheets
  assert EVIL not in drawings.sentence(EVIL, "error")
  assert EVIL not in drawings.player_parts([(EVIL, EVIL)])


def test_phases_have_tokens_and_seconds():
  video = EffectiveVideo(24, 24, 1.0, 0.0, 24.0, 24.0, (), 8, True)
  seconds = dict(queue=0.0, read=0.5, encode=0.25, prefill=0.125, decode=2.0)
  table = drawings.phase_table(Usage(100, 8, 50, (video,), seconds), 0.1)
  for text in ("24 frames shown", "8 visual tokens, kept", "100 tokens", "(25.0 a second)"):
    assert text in table
  assert table.count("<tr>") == 6


def write_corpus(folder, records):
  corpus = folder / "corpus"
  corpus.mkdir()
  for name in ("a.mp4", "b.mp4"):
    (corpus / name).write_bytes(b"x")
  (folder / "secret.mp4").write_bytes(b"x")
  (corpus / "held_out.json").write_text(json.dumps(records))


def record(video, kind="shape"):
  return dict(video=video, kind=kind, conversations=[dict(value="<image>\nWhat shape?")])


def test_examples_are_questions_about_different_videos(tmp_path):
  records = [record("a.mp4"), record("a.mp4"), record("b.mp4", "colour")]
  write_corpus(tmp_path, records)
  for checkpoint in ("stage2", "stage2/checkpoints/100"):
    chosen = examples.find_examples(str(tmp_path / checkpoint))
    assert [example.file_name for example in chosen] == ["a.mp4", "b.mp4"]
    assert chosen[0].question == "What shape?"


@pytest.mark.parametrize(
  "records", [{}, [1], [{}], [record("gone.mp4")], [record("../secret.mp4")], [dict(video=3)]]
)
def test_other_manifests_give_no_examples(tmp_path, records):
  write_corpus(tmp_path, records)
  assert examples.find_examples(str(tmp_path / "stage2")) == []


def test_no_corpus_no_examples(tmp_path):
  assert examples.find_examples(str(tmp_path / "run")) == []
  assert examples.find_examples("gs://bucket/run") == []


def test_a_talk_shows_its_video_once():
  talk = talks.PageTalk(talks.PickedVideo("/a.mp4", "a.mp4"), [("What?", "A circle.")])
  request = talk.request("And then?", AnswerSettings(), frames=16)
  first, answer, second = request.messages
  medium, question = first.parts
  assert (medium.kind, medium.paths, medium.frame_settings.frames) == (VIDEO, ("/a.mp4",), 16)
  assert (question, answer.parts, second.parts) == ("What?", ("A circle.",), ("And then?",))


def test_a_long_chat_is_drawn_less_often():
  """Drawing it takes a slow browser seconds, and updates must not wait in line there."""
  pause = actions.redraw_pause
  assert pause([]) == actions.REDRAW_SECONDS
  assert pause(talks.PageTalk().bubbles("What?", "a" * 100_000)) > 1.0
  assert pause(talks.PageTalk(turns=[("What?", "a" * 2000)] * 50).bubbles()) > 1.0


def test_a_conversation_beyond_the_context_says_what_helps_on_the_page():
  def refuse(request):
    raise RequestError("A prompt of 9 tokens is too long.", code="context_length_exceeded")

  engine = types.SimpleNamespace(submit=refuse, session=types.SimpleNamespace(params={}))
  page = actions.PageActions(engine, None)

  async def updates():
    return [update async for update in page.ask("a", "What?", actions.PageControls())]

  (failure,) = asyncio.run(updates())
  assert "is too long. On this page: start over, or change the settings." in failure.status
  assert (failure.chat, failure.question, failure.running) == ([], "What?", False)


class Handle:
  cancelled = False

  def cancel(self):
    self.cancelled = True


class EndlessAnswer(Handle):
  usage = None

  async def arrivals(self):
    while not self.cancelled:
      yield [types.SimpleNamespace(text="word ")]


def test_an_answer_that_is_left_ends_with_what_the_page_shows_now():
  """Its last update may be on its way while the page begins anew."""
  session = types.SimpleNamespace(params={})
  engine = types.SimpleNamespace(submit=lambda request: EndlessAnswer(), session=session)
  page = actions.PageActions(engine, None)

  async def updates_after_anew():
    answer = page.ask("a", "What?", actions.PageControls())
    await anext(answer)
    written = await anext(answer)
    assert written.chat[-1]["content"] == "word "
    page.begin_anew("a")
    return [update async for update in answer]

  *_, last = asyncio.run(updates_after_anew())
  assert (last.chat, last.running) == ([], False)


def test_a_page_that_closes_ends_its_answer():
  pages = talks.PageTalks(most=2)
  handles = []
  for page in ("a", "b", "c"):  # The third is one more than there may be.
    handles.append(Handle())
    pages.talk(page).handle = handles[-1]
  pages.leave("c")
  assert [handle.cancelled for handle in handles] == [True, False, True]
