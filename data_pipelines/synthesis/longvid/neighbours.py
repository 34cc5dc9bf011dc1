# SPDX-License-Identifier: Apache-2.0
"""What happens right after, or right before, an event.

The wrong options are other events of the same part. The event on the other side of the named one is
among them, since neighbours are alike: otherwise the option most like the question would be right.
"""

import itertools

from data_pipelines.synthesis.draw import Draws
from data_pipelines.synthesis.longvid.event_texts import are_alike
from data_pipelines.synthesis.longvid.shown_parts import ShownPart, ShownTrack
from data_pipelines.synthesis.track import MultipleChoice

OPTIONS = 4
LONGEST_GAP = 60.0  # Seconds between an event and the next one.
OVERLAP = 0.5  # Seconds that two successive events may share.


def neighbour_question(shown: ShownTrack, part: ShownPart, draws: Draws) -> MultipleChoice | None:
  """A question about the event after or before a drawn one.

  None if there is none that can be asked about.
  """
  for place in draws.places(len(part.events)):
    step = draws.choose((1, -1))
    task = "event_after" if step > 0 else "event_before"
    reason = _rejection(part, place, step)
    wrong = [] if reason else _wrong(part, place, step, draws)
    if not reason and len(wrong) < OPTIONS - 1:
      reason = "fewer than 3 other events with labels of their own"
    if reason:
      shown.rejected[f"{task}: {reason}"] += 1
      continue
    origin = dict(
      events=[part.numbers[place], part.numbers[place + step]],
      others=[part.numbers[other] for other in wrong],
    )
    texts = [part.events[other].label for other in wrong]
    label = part.events[place].label
    right = part.events[place + step].label
    return part.choice(draws, task, right, origin, wrong=texts, label=label)
  return None


def _rejection(part: ShownPart, place: int, step: int) -> str:
  """Why an event is not asked about; "" if it is."""
  if not 0 <= place + step < len(part.events):
    return "there is no event on this side"
  if not part.unique[place] or not part.unique[place + step]:
    return "a label is like another one or too general"
  first, second = sorted((place, place + step))
  gap = part.events[second].t0 - part.events[first].t1
  if gap > LONGEST_GAP:
    return f"the next event is more than {LONGEST_GAP:g} seconds away"
  if gap < -OVERLAP:
    return "the events overlap"
  if _is_between(part, first, second):
    return "an event overlaps both"
  return ""


def _is_between(part: ShownPart, first: int, second: int) -> bool:
  """Whether another event lies between the two."""
  end = part.events[first].t1 + OVERLAP
  start = part.events[second].t0 - OVERLAP
  for place, event in enumerate(part.events):
    if place not in (first, second) and event.t1 > end and event.t0 < start:
      return True
  return False


def _wrong(part: ShownPart, place: int, step: int, draws: Draws) -> list[int]:
  """Places of three wrong events.

  The one on the other side, and drawn ones.
  """
  right = part.events[place + step].label
  label = part.events[place].label
  other_side = place - step
  first = [other_side] if 0 <= other_side < len(part.events) else []
  seen = {place, place + step}
  wrong: list[int] = []
  for other in itertools.chain(first, draws.places(len(part.events))):
    if other in seen or not part.unique[other]:
      continue
    seen.add(other)
    text = part.events[other].label
    if not are_alike(text, right) and not are_alike(text, label):
      wrong.append(other)
    if len(wrong) == OPTIONS - 1:
      break
  return wrong
