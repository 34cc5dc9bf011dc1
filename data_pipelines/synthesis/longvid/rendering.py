# SPDX-License-Identifier: Apache-2.0
"""Questions as records.

In a record for training, the question lists the options with their letters. A record for evaluation
has a list of options.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

from data_pipelines.sample import IMAGE, Scene, Timeline
from data_pipelines.synthesis import draw, question_templates
from data_pipelines.synthesis.track import MultipleChoice, Track
from data_pipelines.text.choices import LETTERS, choice_lines


class DrawnQuestion(NamedTuple):
  """A question with its names and its draw."""

  identifier: str
  track_name: str
  draw: int  # Lower ones are taken first.
  question: MultipleChoice


class LetterBalance:
  """The places of right options.

  All letters equally often, to ±1, in drawn blocks.

  Every task and number of options is balanced by itself.
  """

  def __init__(self, seed: int, *names: object):
    self._seed = seed
    self._names = names
    self._used: dict[tuple[str, int], int] = {}
    self._blocks: dict[tuple[str, int], list[int]] = {}

  def place(self, task: str, options: int) -> int:
    """The place of the next right option."""
    kind = task, options
    count = self._used.get(kind, 0)
    self._used[kind] = count + 1
    if count % options == 0:
      names = (*self._names, task, options, count)
      draws = draw.Draws(self._seed, "letters", *names)
      self._blocks[kind] = draws.shuffled(range(options))
    return self._blocks[kind][count % options]


def training_record(
  drawn: DrawnQuestion, track: Track, letters: LetterBalance, labels: str
) -> dict[str, Any]:
  """A record in the format of training data.

  The options stand in the human's turn, the answer is a letter. labels: how the track's labels were
  made.
  """
  question = drawn.question
  stem = question.stem
  answer = question.right
  if question.wrong:
    options, place = _options(question, letters)
    stem += choice_lines(options)
    answer = LETTERS[place]
  return _record(drawn, track, (stem, answer), labels)


def evaluation_record(
  drawn: DrawnQuestion, track: Track, letters: LetterBalance, labels: str
) -> dict[str, Any]:
  """A record for `filax evals`, which writes the options itself."""
  question = drawn.question
  if not question.wrong:
    return _record(drawn, track, (question.stem, question.right), labels)
  options, place = _options(question, letters)
  record = _record(drawn, track, (question.stem, LETTERS[place]), labels)
  record["options"] = options
  return record


def _options(question: MultipleChoice, letters: LetterBalance) -> tuple[list[str], int]:
  """(options in letter order, the place of the right one)."""
  place = letters.place(question.task, len(question.wrong) + 1)
  options = list(question.wrong)
  options.insert(place, question.right)
  return options, place


def _record(
  drawn: DrawnQuestion, track: Track, texts: tuple[str, str], labels: str
) -> dict[str, Any]:
  stem, answer = texts
  question = drawn.question
  turns = [
    {"from": "human", "value": f"{IMAGE}\n{stem}"},
    {"from": "gpt", "value": answer},
  ]
  origin: dict[str, Any] = {
    "source": track.source,
    "track": track.key,
    "name": drawn.track_name,
    "task": question.task,
    **question.origin,
  }
  if question.start is not None:
    origin["shown"] = [question.start, question.end]
  origin["labels"] = labels
  origin["templates"] = question_templates.VERSION
  return {
    "id": drawn.identifier,
    "kind": question.task,
    **media_keys(track.media, question.start, question.end),
    "conversations": turns,
    "made": origin,
  }


def media_keys(
  timeline: Timeline, start: float | None = None, end: float | None = None
) -> Mapping[str, Any]:
  """The record keys that show a timeline or a part of it."""
  if len(timeline) > 1 or timeline[0].kind != "video" or timeline[0].at:
    return {"scenes": _scenes(timeline, start or 0.0, end)}
  scene = timeline[0]
  keys: dict[str, Any] = {"video": scene.media}
  first = scene.t0 + (start or 0.0)
  last = scene.t1 if end is None else scene.t0 + end
  if first > 0 or last is not None:
    keys["start"] = round(first, 3)
  if last is not None:
    keys["end"] = milliseconds_down(last)
  return keys


def _scenes(timeline: Timeline, start: float, end: float | None) -> list[dict[str, Any]]:
  """The scenes between two seconds of a timeline, from second 0 on."""
  entries = []
  for scene in timeline:
    first = max(start, scene.at)
    last = _scene_end(scene)
    if end is not None and last is not None:
      last = min(end, last)
    elif end is not None:
      last = end
    if last is not None and last - first < 1e-3:
      continue
    entry = {"media": scene.media, "kind": scene.kind, "t0": round(scene.t0 + first - scene.at, 3)}
    if last is not None:
      entry["t1"] = milliseconds_down(scene.t0 + last - scene.at)
    entry["at"] = round(first - start, 3)
    entries.append(entry)
  return entries


def _scene_end(scene: Scene) -> float | None:
  """The second of the timeline at which a scene ends."""
  return None if scene.t1 is None else scene.at + scene.t1 - scene.t0


def milliseconds_down(seconds: float) -> float:
  """Seconds rounded down to a millisecond."""
  return math.floor(seconds * 1000 + 1e-6) / 1000


def shown_files(timelines: Sequence[Timeline]) -> list[str]:
  """The media of timelines, each once, in order."""
  names: dict[str, None] = {}
  for timeline in timelines:
    for scene in timeline:
      names.setdefault(scene.media)
  return list(names)
