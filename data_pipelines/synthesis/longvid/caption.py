# SPDX-License-Identifier: Apache-2.0
"""Captions: a short one of a part, and a dense one of the events in it with their times."""

from collections.abc import Iterator
import functools

from data_pipelines.synthesis.draw import Draws
from data_pipelines.synthesis.longvid.event_texts import normalised_text
from data_pipelines.synthesis.longvid.shown_parts import ShownPart, ShownTrack, Slot
from data_pipelines.synthesis.question_templates import SCENE_LINE
from data_pipelines.synthesis.track import Event, MultipleChoice

LEAST_WORDS = 4
LEAST_SECONDS = 5.0
LEAST_CHILDREN = 3
LEAST_COVER = 0.5  # Of the shown part; otherwise the caption leaves out what is seen.
MOST_WORDS = 1500  # A longer caption ends at a line.
_TIME_WORDS = 4  # Of SCENE_LINE.


def list_slots(shown: ShownTrack) -> Iterator[Slot]:
  """Requests for captions."""
  for part in shown.parts:
    yield Slot("caption_short", functools.partial(_short, shown, part))
    yield Slot("caption_dense", functools.partial(_dense, shown, part))


def _short(shown: ShownTrack, part: ShownPart, draws: Draws) -> MultipleChoice | None:
  """A request for a short caption; None if there is none."""
  reason = _short_rejection(part)
  if reason:
    shown.rejected[f"caption_short: {reason}"] += 1
    return None
  return part.choice(draws, "caption_short", " ".join(part.text.split()), {})


def _dense(shown: ShownTrack, part: ShownPart, draws: Draws) -> MultipleChoice | None:
  """A request for a caption of all events, or None."""
  groups = _merged(part)
  reason = _dense_rejection(part, groups)
  if reason:
    shown.rejected[f"caption_dense: {reason}"] += 1
    return None
  lines, numbers = _dense_lines(part, groups)
  return part.choice(draws, "caption_dense", "\n".join(lines), dict(events=numbers))


def _short_rejection(part: ShownPart) -> str:
  """Why there is no short caption of a part.

  "" if there is one.
  """
  if len(part.text.split()) < LEAST_WORDS:
    return f"the text has fewer than {LEAST_WORDS} words"
  if part.duration < LEAST_SECONDS:
    return f"the part is shorter than {LEAST_SECONDS:g} seconds"
  return ""


def _dense_rejection(part: ShownPart, groups: list[list[int]]) -> str:
  """Why there is no dense caption of a part.

  "" if there is one.
  """
  if len(groups) < LEAST_CHILDREN:
    return f"fewer than {LEAST_CHILDREN} events"
  covered = 0.0
  end = part.start
  for event in part.events:
    if event.t1 > end:
      covered += event.t1 - max(end, event.t0)
      end = event.t1
  if covered < LEAST_COVER * part.duration:
    return f"the events cover less than {LEAST_COVER:.0%}"
  return ""


def _merged(part: ShownPart) -> list[list[int]]:
  """Places of events, neighbours of equal text together."""
  groups: list[list[int]] = []
  text = None
  for place, event in enumerate(part.events):
    event_text = normalised_text(_caption(event))
    if not event_text:
      continue
    if event_text == text:
      groups[-1].append(place)
    else:
      groups.append([place])
    text = event_text
  return groups


def _caption(event: Event) -> str:
  return event.text or event.label


def _dense_lines(part: ShownPart, groups: list[list[int]]) -> tuple[list[str], list[int]]:
  """(lines, numbers of the events in them).

  Times in whole seconds never step back.
  """
  lines: list[str] = []
  numbers: list[int] = []
  words = 0
  last_start = 0
  last_end = round(part.duration)
  for places in groups:
    first = part.events[places[0]]
    end = first.t1
    if len(places) > 1:
      end = max([part.events[place].t1 for place in places])
    start = max(last_start, round(part.relative(first.t0)))
    stop = min(last_end, max(start + 1, round(part.relative(end))))
    if stop <= start:
      continue
    caption = _caption(first).split()
    words += len(caption) + _TIME_WORDS
    if lines and words > MOST_WORDS:
      break
    lines.append(SCENE_LINE.format(start=start, end=stop, text=" ".join(caption)))
    numbers += [part.numbers[place] for place in places]
    last_start = start
  return lines, numbers
