# SPDX-License-Identifier: Apache-2.0
"""The questions of a shard of tracks.

They are built, selected and written as records.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
import dataclasses
import functools
import json
import pathlib

from data_pipelines.synthesis import shards, splits
from data_pipelines.synthesis.longvid import caption, count, grounding, order, scenes
from data_pipelines.synthesis.longvid.guard import BlindGuard, parse_guard
from data_pipelines.synthesis.longvid.rendering import (
  DrawnQuestion,
  LetterBalance,
  evaluation_record,
  training_record,
)
from data_pipelines.synthesis.longvid.shown_parts import ShownTrack, TaskBuilder, drawn_slots
from data_pipelines.synthesis.longvid.track_files import written_tracks
from data_pipelines.synthesis.track import MultipleChoice, Track

TASKS: dict[str, TaskBuilder] = dict(
  caption=caption.list_slots,
  grounding=grounding.list_slots,
  order=order.list_slots,
  scenes=scenes.list_slots,
  count=count.list_slots,
)
_ALL = 1 << 64  # Above every draw.
_NOTHING = shards.ShardFacts(0, 0, "")
NumberedShard = tuple[int, str, str]  # (number, path of its tracks, name of its questions).


@dataclasses.dataclass(frozen=True)
class QuestionRules:
  """Which questions are asked."""

  tasks: tuple[str, ...] = tuple(TASKS)
  per_video: int = 8  # Questions about a track; 0: all.
  held_out: float = 0.02  # Share of source videos.
  seed: int = 42
  labels: str = "rules"  # How labels were made.


@dataclasses.dataclass
class ShardQuestions:
  """What was counted in a shard, and its held-out questions."""

  facts: shards.ShardFacts = _NOTHING
  held_out: list[tuple[Track, DrawnQuestion]] = dataclasses.field(default_factory=list)
  rejected: Counter[str] = dataclasses.field(default_factory=Counter)
  asked: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)  # (source, task).
  letters: Counter[str] = dataclasses.field(default_factory=Counter)
  seconds: Counter[int] = dataclasses.field(default_factory=Counter)  # Shown, in tens.


@dataclasses.dataclass(frozen=True)
class ShardBuilder:
  """Writes the training questions of a shard. Picklable."""

  rules: QuestionRules
  guard_path: str
  folder: str  # Of the parts of shards.
  highest: Mapping[str, int] = dataclasses.field(default_factory=dict)  # Task -> draw.

  def __call__(self, shard: NumberedShard) -> ShardQuestions:
    number, path, name = shard
    result = ShardQuestions()
    letters = LetterBalance(self.rules.seed, number)
    with shards.open_part(self.folder, name) as part:
      self._write(path, part, letters, result)
    result.facts = part.facts()
    return result

  def _write(
    self, path: str, part: shards.ShardFile, letters: LetterBalance, result: ShardQuestions
  ) -> None:
    """Writes the questions about the tracks in a file, and counts them."""
    for track, is_held_out, questions in self._selected(path, result.rejected):
      if is_held_out:
        bare = _without_events(track)
        result.held_out += [(bare, drawn) for drawn in questions]
        continue
      lines = []
      for drawn in questions:
        question = drawn.question
        record = training_record(drawn, track, letters, self.rules.labels)
        lines.append(shards.json_line(record))
        result.asked[track.source, question.task] += 1
        result.seconds[_shown_tens(track, question)] += 1
        if question.wrong:
          result.letters[record["conversations"][1]["value"]] += 1
      part.write(b"".join(lines), len(lines))

  def draws(self, shard: NumberedShard) -> dict[str, list[int]]:
    """The draws of the training questions of every task."""
    draws: dict[str, list[int]] = {}
    for _, is_held_out, questions in self._selected(shard[1], Counter()):
      for drawn in questions:
        if not is_held_out:
          draws.setdefault(drawn.question.task, []).append(drawn.draw)
    return draws

  def _selected(
    self, path: str, rejected: Counter[str]
  ) -> Iterator[tuple[Track, bool, list[DrawnQuestion]]]:
    """(track, whether it is held out, its selected questions)."""
    names: set[str] = set()
    shares = {splits.HELD_OUT: self.rules.held_out}
    guard = read_guard(self.guard_path)
    for track in written_tracks(path):
      shown = ShownTrack(track, self.rules.seed, rejected, guard)
      if shown.name in names:
        rejected["all: the track comes twice"] += 1
        continue
      names.add(shown.name)
      split = splits.split_of(track.key, shares, self.rules.seed)
      is_held_out = split == splits.HELD_OUT
      selected = self._questions(shown)
      if not is_held_out:
        selected = [drawn for drawn in selected if self._is_taken(drawn, rejected)]
      yield track, is_held_out, selected

  def _is_taken(self, drawn: DrawnQuestion, rejected: Counter[str]) -> bool:
    task = drawn.question.task
    if drawn.draw <= self.highest.get(task, _ALL):
      return True
    rejected[f"{task}: more than --per-task"] += 1
    return False

  def _questions(self, shown: ShownTrack) -> list[DrawnQuestion]:
    """The questions about a track, those of the lowest draws."""
    builders = {task: TASKS[task] for task in self.rules.tasks}
    slots = drawn_slots(shown, builders)
    most = self.rules.per_video or len(slots)
    seen = set()
    taken: list[DrawnQuestion] = []
    for drawn in slots:
      if len(taken) == most:
        shown.rejected[f"{drawn.slot.kind}: more than --per-video"] += 1
        continue
      question = drawn.question(shown)
      if question is None:
        continue
      content = (question.start, question.end, question.stem, question.right)
      if content in seen:
        shown.rejected[f"{question.task}: asked already"] += 1
        continue
      seen.add(content)
      source = shown.track.source
      identifier = f"longvid-{source}-{shown.name}-{question.task}-{drawn.number}"
      taken.append(DrawnQuestion(identifier, shown.name, drawn.draw, question))
    return taken


def _without_events(track: Track) -> Track:
  return dataclasses.replace(track, events=(), parts=())


def _shown_tens(track: Track, question: MultipleChoice) -> int:
  """Seconds that a question shows, in tens."""
  if question.start is None or question.end is None:
    return int(track.duration // 10)
  return int((question.end - question.start) // 10)


@functools.lru_cache(2)
def read_guard(path: str) -> BlindGuard:
  """The guard in a file."""
  return parse_guard(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))


def held_out_lines(
  questions: list[tuple[Track, DrawnQuestion]], rules: QuestionRules
) -> Iterator[bytes]:
  """Records for `filax evals`, with balanced letters."""
  letters = LetterBalance(rules.seed, splits.HELD_OUT)
  for track, drawn in questions:
    record = evaluation_record(drawn, track, letters, rules.labels)
    yield shards.json_line(record)
