# SPDX-License-Identifier: Apache-2.0
"""Which clips make which long video.

Clips are taken from the top of a shuffled deck until a drawn length is reached; the deck is
shuffled again for every pass. All draws depend on the seed and on names alone.
"""

from collections import deque
from collections.abc import Iterator, Sequence
import dataclasses
import math

import numpy as np

from data_pipelines.synthesis import draw

_LOOKS = 32  # Clips put back earlier that a video looks at.
_MISFITS = 500  # Clips that a video puts back before it is given up.
_FAILURES = 200  # Videos given up in a row.
_STEEPEST = 50.0  # Steepest law of lengths: its density falls to e^-50 at the far end.


@dataclasses.dataclass(frozen=True)
class VideoRules:
  """What a long video is."""

  low: float = 300.0  # Seconds.
  high: float = 1800.0
  mean: float = 667.0  # Mean of the drawn lengths.
  min_scenes: int = 4
  max_words: int = 0  # The most words of a caption; 0 = no limit.
  min_scene_share: int = 0  # Every scene is long enough for one of this many uniform frames.
  passes: int = 3  # Uses of a clip.
  seed: int = 42


class LengthLaw:
  """Lengths from `low` to `high` with a given mean, exponential.

  A length is low + Exp(1 / rate), given that it is below high. A mean over the middle has a
  negative rate. Raises ValueError for a mean outside.
  """

  def __init__(self, low: float, high: float, mean: float):
    if not low < mean < high:
      raise ValueError(
        f"--mean {mean:g} is not inside of --minutes {low / 60:g}:{high / 60:g}, which are {low:g} "
        f"to {high:g} seconds."
      )
    self.low = low
    self.span = high - low
    self.rate = self._solved((mean - low) / self.span) / self.span
    share = (mean - low) / self.span
    edge = _mean_share(_STEEPEST)
    if not edge <= share <= 1 - edge:
      raise ValueError(
        f"--mean {mean:g} is too near to an end of --minutes {low / 60:g}:{high / 60:g}."
      )

  def length(self, unit: float) -> float:
    """The length at a number in [0, 1), the law's inverse."""
    reach = self.rate * self.span
    if abs(reach) < 1e-9:
      return self.low + unit * self.span
    return self.low - math.log1p(unit * math.expm1(-reach)) / self.rate

  def _solved(self, share: float) -> float:
    """The steepness whose mean is `share` of the span, by bisection."""
    low = -_STEEPEST
    high = _STEEPEST
    for _ in range(100):
      middle = (low + high) / 2
      if _mean_share(middle) > share:
        low = middle
      else:
        high = middle
    return middle


def _mean_share(steepness: float) -> float:
  """The mean of an exponential on [0, 1] with density e^(-steepness x)."""
  if abs(steepness) < 1e-6:
    return 0.5
  return 1 / steepness - 1 / math.expm1(steepness)


@dataclasses.dataclass(frozen=True)
class Candidates:
  """The clips of one split, as columns."""

  clip: np.ndarray  # u64 digests.
  key: np.ndarray  # u64 digests of the source videos.
  milliseconds: np.ndarray
  words: np.ndarray


@dataclasses.dataclass
class PlannedVideos:
  """Long videos of one split.

  clips[first[n] : first[n + 1]] are those of video n.
  """

  targets: np.ndarray  # f64 [n], seconds.
  passes: np.ndarray  # i32 [n]: the pass of the first clip, from 1.
  first: np.ndarray  # i64 [n + 1].
  clips: np.ndarray  # i64: rows of the candidates.
  failed: int = 0  # Videos that did not come about; their clips were put back.

  def __len__(self) -> int:
    return len(self.targets)

  def scenes(self, number: int) -> np.ndarray:
    """The clips of a video."""
    return self.clips[self.first[number] : self.first[number + 1]]


class Deck:
  """Clips in the order of drawing, pass after pass."""

  def __init__(self, clips: np.ndarray, passes: int, seed: int):
    self.number = 0  # The number of the pass.
    self.is_empty = False
    self._clips = clips.tolist()
    self._rest = self._all(passes, seed)
    self._waiting: deque[int] = deque()  # Put back.
    self._looks = 0

  def begin_video(self) -> None:
    """Lets the next draws begin with some of the clips put back."""
    self._looks = len(self._waiting)
    if not self.is_empty:
      self._looks = min(self._looks, _LOOKS)

  def next_clip(self) -> int | None:
    """The next clip; None if there is none for this video."""
    if self._looks:
      self._looks -= 1
      return self._waiting.popleft()
    clip = next(self._rest, None)
    self.is_empty = clip is None
    return clip

  def put_back(self, clip: int) -> None:
    """Keeps a clip for a later video."""
    self._waiting.append(clip)

  def put_on_top(self, clip: int) -> None:
    """Keeps a clip for the next video, after the last draw."""
    self._looks = 0
    self._waiting.appendleft(clip)

  def _all(self, passes: int, seed: int) -> Iterator[int]:
    for number in range(1, passes + 1):
      self.number = number
      digests = draw.digests(self._clips, seed, "deck", number)
      order = np.argsort(digests, kind="stable")
      yield from order.tolist()


def plan_videos(candidates: Candidates, count: int, split: str, rules: VideoRules) -> PlannedVideos:
  """Plans up to `count` long videos.

  Fewer if the clips do not suffice.
  """
  law = LengthLaw(rules.low, rules.high, rules.mean)
  deck = Deck(candidates.clip, rules.passes, rules.seed)
  builder = _Builder(candidates, deck, rules)
  targets: list[float] = []
  passes: list[int] = []
  first = [0]
  clips: list[int] = []
  failed = 0
  failures_in_a_row = 0
  while len(targets) < count and failures_in_a_row < _FAILURES:
    number = len(targets) + failed
    target = law.length(draw.unit(rules.seed, "length", split, number))
    pass_number = max(deck.number, 1)
    scenes = builder.take_scenes(target)
    if scenes:
      targets.append(target)
      passes.append(pass_number)
      clips += scenes
      first.append(len(clips))
      failures_in_a_row = 0
      continue
    failed += 1
    failures_in_a_row += 1
  return PlannedVideos(
    targets=np.array(targets, np.float64),
    passes=np.array(passes, np.int32),
    first=np.array(first, np.int64),
    clips=np.array(clips, np.int64),
    failed=failed,
  )


class _Builder:
  """Takes the scenes of one video after the other from a deck."""

  def __init__(self, candidates: Candidates, deck: Deck, rules: VideoRules):
    self._deck = deck
    self._rules = rules
    self._low = round(rules.low * 1000)
    self._high = round(rules.high * 1000)
    self._keys: list[int] = candidates.key.tolist()
    self._milliseconds: list[int] = candidates.milliseconds.tolist()
    self._words: list[int] = candidates.words.tolist()

  def take_scenes(self, target: float) -> list[int]:
    """The clips of a video of about `target` seconds.

    Empty, with the clips put back, if the rules cannot be met.
    """
    wanted = target * 1000
    shortest = self._shortest(wanted)
    scenes: list[int] = []
    keys: set[int] = set()
    total = 0
    words = 0
    misfits = 0
    self._deck.begin_video()
    while misfits <= _MISFITS:
      clip = self._deck.next_clip()
      if clip is None:
        break
      length = self._milliseconds[clip]
      if self._keys[clip] in keys or length < shortest:
        self._deck.put_back(clip)
        misfits += 1
        continue
      is_open = total < self._low or len(scenes) < self._rules.min_scenes
      too_long = total + length > self._high
      too_wordy = 0 < self._rules.max_words < words + self._words[clip]
      overshoots = total + length - wanted >= wanted - total
      if not is_open and (too_long or too_wordy or overshoots):
        self._deck.put_on_top(clip)
        break
      if too_long or too_wordy:
        self._deck.put_back(clip)
        misfits += 1
        continue
      scenes.append(clip)
      keys.add(self._keys[clip])
      total += length
      words += self._words[clip]
    return self._finished(scenes, total)

  def _shortest(self, total: float) -> float:
    """Milliseconds of a scene that uniform frames cannot miss."""
    frames = self._rules.min_scene_share
    return total / (frames - 1) if frames > 1 else 0.0

  def _finished(self, scenes: list[int], total: int) -> list[int]:
    """A video without scenes that are too short for its length."""
    while True:
      shortest = self._shortest(total)
      short = [clip for clip in scenes if self._milliseconds[clip] < shortest]
      if not short:
        break
      for clip in short:
        self._deck.put_back(clip)
        scenes.remove(clip)
        total -= self._milliseconds[clip]
    if total >= self._low and len(scenes) >= self._rules.min_scenes:
      return scenes
    for clip in scenes:
      self._deck.put_back(clip)
    return []


def unseen_scenes(
  starts: np.ndarray, lengths: np.ndarray, totals: np.ndarray, frames: int
) -> np.ndarray:
  """Which scenes none of `frames` uniform frames shows, bool [scenes].

  starts, lengths: of the scenes; totals: of their videos. Frames reach from the first to the last
  instant (phase "ends").
  """
  step = totals / (frames - 1)
  next_frame = np.ceil(starts / step - 1e-9) * step
  is_last = starts + lengths >= totals - 1e-6
  return (next_frame >= starts + lengths - 1e-9) & ~is_last


def scene_starts(lengths: np.ndarray, first: Sequence[int] | np.ndarray) -> np.ndarray:
  """Where scenes begin on their timelines; lengths of all videos in order."""
  ends = np.cumsum(lengths)
  before = np.concatenate([[0], ends])[np.asarray(first)[:-1]]
  counts = np.diff(first)
  return ends - lengths - np.repeat(before, counts)
