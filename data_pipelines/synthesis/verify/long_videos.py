# SPDX-License-Identifier: Apache-2.0
"""Checks of joined videos: the times of a caption against its scenes, and the set's averages."""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

from data_pipelines.sample import Scene
from data_pipelines.synthesis.verify.asked import AskedQuestion, media_key
from data_pipelines.synthesis.verify.verdicts import Verdicts

_SECONDS = re.compile(r"([0-9]+) - ([0-9]+) seconds: (.+)")
_CLOCK = re.compile(r"\[([0-9:]+) - ([0-9:]+)\] (.+)")
TOLERANCE = 0.05  # Allowed relative error of averages.
HALF = 0.5011  # Seconds between a border and the whole second that is nearest.


@dataclasses.dataclass
class LongVideoSums:
  """Sums over joined videos."""

  videos: int = 0
  words: int = 0
  seconds: float = 0.0
  squares: float = 0.0  # Sum of the squared seconds.
  scenes: int = 0
  uses: Counter[str] = dataclasses.field(default_factory=Counter)  # Medium of a clip -> its uses.

  def add_sums(self, other: "LongVideoSums") -> None:
    """Adds those of another file."""
    self.videos += other.videos
    self.words += other.words
    self.seconds += other.seconds
    self.squares += other.squares
    self.scenes += other.scenes
    self.uses += other.uses

  def averages(self) -> dict[str, float]:
    """The averages; empty without videos."""
    if not self.videos:
      return {}
    return dict(
      videos=self.videos,
      words=self.words / self.videos,
      seconds=self.seconds / self.videos,
      scenes=self.scenes / self.videos,
      most_uses=max(self.uses.values()),
    )

  def standard_error(self) -> float:
    """Of the average of seconds."""
    mean = self.seconds / self.videos
    variance = max(0.0, self.squares / self.videos - mean * mean)
    return math.sqrt(variance / self.videos)


def is_long_video(question: AskedQuestion) -> bool:
  """Whether a record is a joined video."""
  return "clips" in question.made


def check_long_video(question: AskedQuestion, sums: LongVideoSums, verdicts: Verdicts) -> None:
  """Checks a caption against its scenes; adds both to `sums`."""
  scenes = question.media[0] if question.media else ()
  clips = question.made["clips"]
  is_listed = isinstance(clips, list) and len(clips) == len(scenes) > 0
  reason = "made.clips {} are not {} scenes"
  if not verdicts.expect("provenance", is_listed, reason, clips, len(scenes)):
    return
  keys = [media_key(scene.media) for scene in scenes]
  repeated = [key for key, count in Counter(keys).items() if count > 1]
  verdicts.expect("scenes", not repeated, "the video shows {} twice", repeated)
  ends = [_end(scene) for scene in scenes]
  lines = question.answer.split("\n")
  sums.videos += 1
  sums.words += sum(len(_line_text(line).split()) for line in lines)
  sums.scenes += len(scenes)
  sums.seconds += ends[-1]
  sums.squares += ends[-1] ** 2
  sums.uses.update(f"{scene.media}#{scene.t0:.3f}" for scene in scenes)
  _check_lines(lines, ends, verdicts)


def _end(scene: Scene) -> float:
  """Where a scene ends on the timeline."""
  return scene.at + (scene.t1 or scene.t0) - scene.t0


def _check_lines(lines: Sequence[str], ends: Sequence[float], verdicts: Verdicts) -> None:
  """Lines share their borders with the scenes; a caption without times passes."""
  reason = "{} lines for {} scenes"
  if not verdicts.expect("times", len(lines) == len(ends), reason, len(lines), len(ends)):
    return
  spans = list(map(_line_span, lines))
  if not any(spans):
    return
  before = 0
  for number, span in enumerate(spans):
    if not verdicts.expect("times", span, "{} has no times", lines[number]):
      return
    assert span is not None
    is_joined = span[0] == before and span[1] >= before
    values = (number + 1, span[0], before)
    verdicts.expect("times", is_joined, "line {} begins at {}, not at {}", *values)
    is_border = abs(span[1] - ends[number]) <= HALF
    places = (number + 1, span[1], round(ends[number], 3))
    verdicts.expect("times", is_border, "line {} ends at {}, its scene at {}", *places)
    before = span[1]


def _line_span(line: str) -> tuple[int, int] | None:
  """(start, end) of a line in whole seconds."""
  match = _SECONDS.fullmatch(line)
  if match:
    return int(match[1]), int(match[2])
  match = _CLOCK.fullmatch(line)
  if match:
    return clock_seconds(match[1]), clock_seconds(match[2])
  return None


def _line_text(line: str) -> str:
  match = _SECONDS.fullmatch(line) or _CLOCK.fullmatch(line)
  return match[3] if match else line


def clock_seconds(text: str) -> int:
  """Seconds of "mm:ss" or "h:mm:ss"."""
  total = 0
  for number in text.split(":"):
    total = total * 60 + int(number or 0)
  return total


def check_averages(
  sums: LongVideoSums, content: Mapping[str, Any], verdicts: Verdicts
) -> dict[str, float]:
  """Checks averages against those in recipe.json; returns them."""
  averages = sums.averages()
  if not averages:
    return averages
  asked = _number_at(content, "recipe", "videos", "mean")
  if asked:
    near = max(TOLERANCE * asked, 3 * sums.standard_error())
    is_near = abs(averages["seconds"] - asked) <= near
    reason = "videos last {} seconds on average, and --mean is {}"
    verdicts.expect("averages", is_near, reason, round(averages["seconds"], 1), asked)
  stated = dict(
    videos=_number_at(content, "figures", "table", "ours", "captions"),
    words=_number_at(content, "figures", "table", "ours", "words"),
    seconds=_number_at(content, "figures", "table", "ours", "seconds"),
    scenes=_number_at(content, "figures", "scenes", "mean"),
    most_uses=_number_at(content, "figures", "uses_of_a_clip", "most"),
  )
  for name, value in stated.items():
    if value:
      is_near = abs(averages[name] - value) <= TOLERANCE * value
      reason = f"{name}: {{}}, and recipe.json states {{}}"
      verdicts.expect("averages", is_near, reason, round(averages[name], 2), value)
  most = _number_at(content, "recipe", "videos", "passes")
  if most:
    reason = "a clip is used {} times, and --passes is {}"
    verdicts.expect("averages", averages["most_uses"] <= most, reason, averages["most_uses"], most)
  return averages


def _number_at(content: Any, *keys: str) -> float:
  """A number inside of objects; 0 if there is none."""
  for key in keys:
    if not isinstance(content, Mapping):
      return 0
    content = content.get(key)
  return content if isinstance(content, int | float) else 0
