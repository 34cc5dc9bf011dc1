# SPDX-License-Identifier: Apache-2.0
"""Frame sampling of VideoChat-Flash, as released and as in its paper.

Pure functions of a video's frame count and duration, both from the media index.
"""

import numpy as np

KNOB = "config.data.sampling"


def dynamic_fps(
  frames: int,
  duration: float,
  low: int = 64,
  high: int = 512,
  multiple: int = 4,
  fps: float = 1.0,
) -> int:
  """The released count (dynamic_fps1): about one frame a second.

  The count is clipped to `low` .. `high` (0 = no upper limit; `low` takes precedence), and rounded
  down to a `multiple`. A video of fewer than `low` frames gives as many whole multiples as it has,
  at least one. Training as released is (64, 512, 4) and (1, 8, 4), inference (64, most, 8).

  Example, at 30 frames a second: a video of 90.5 s gives 88 frames (90, rounded down to a multiple
  of 4), and one of 30 s gives 64.

  Raises ValueError if the settings allow counts that are not multiples.
  """
  check_range(low, high, multiple)
  if low > frames:
    low = _round_down(frames, multiple)
  count = max(multiple, int(duration * fps / multiple) * multiple)
  if high:
    count = min(count, high)
  return max(low, count)


def dense_sparse(
  frames: int,
  duration: float,
  low: int = 64,
  high: int = 512,
  multiple: int = 4,
  short: float = 60.0,
  dense: float = 15.0,
  sparse: float = 1.0,
) -> int:
  """The paper's count (arXiv:2501.00574 §3.1): short videos densely, long ones sparsely.

  `dense` frames a second of a short video, `sparse` of a long one, within the limits of
  `dynamic_fps`. Short means less than `short` seconds, as in the paper's §3.2. The release has no
  such rule: its minimum of 64 frames makes short videos dense.
  """
  fps = dense if duration < short else sparse
  return dynamic_fps(frames, duration, low, high, multiple, fps)


def first(
  duration: float,
  count: int,
  multiple: int = 4,
  fps: float = 1.0,
) -> int:
  """Frames at `fps` from the start of a video, at most `count`.

  A shorter video gives as many whole multiples as it lasts.
  """
  check_range(multiple, count, multiple)
  available = _round_down(int(duration * fps), multiple)
  return max(multiple, min(count, available))


def _round_down(count: int, multiple: int) -> int:
  return count // multiple * multiple


def first_times(count: int, last: float, fps: float = 1.0) -> np.ndarray:
  """Seconds f64 [count]: 0, 1/fps, 2/fps, ..., clipped to `last`.

  `last` is the time at which the last frame appears.
  """
  return np.minimum(np.arange(count) / fps, last)


def released_index(frames: int, count: int) -> np.ndarray:
  """Indices i64 [count] of the middle frames of equal intervals, as released.

  Interval edges are truncated to whole frames. A video of fewer than `count` frames gives each once
  and then repeats its last.
  """
  frames = max(frames, 1)
  intervals = max(1, min(count, frames))
  edges = np.linspace(0, frames, intervals + 1)
  edges = edges.astype(np.int64)
  middles = (edges[:-1] + edges[1:] - 1) // 2
  repeated = np.repeat(middles[-1:], count - intervals)
  return np.concatenate([middles, repeated])


def index_times(index: np.ndarray, frames: int, duration: float) -> np.ndarray:
  """Seconds f64 in the middle of each frame, at constant rate."""
  frame_seconds = duration / max(frames, 1)
  return (np.asarray(index) + 0.5) * frame_seconds


def check_range(low: int, high: int, multiple: int) -> None:
  """Checks the frame limits against `multiple`.

  Raises ValueError if counts between `low` and `high` would not be multiples.
  """
  if multiple < 1 or low < 1 or high < 0:
    raise ValueError(
      f"{KNOB} has low={low}, frames={high}, multiple={multiple}. Set low and multiple to 1 or "
      "more, and frames to 0 (no limit) or more."
    )
  if high % multiple:
    raise _not_a_multiple("frames", high, multiple)
  if low > multiple and low % multiple:
    raise _not_a_multiple("low", low, multiple)


def _not_a_multiple(name: str, value: int, multiple: int) -> ValueError:
  nearest = max(1, round(value / multiple)) * multiple
  return ValueError(
    f"{KNOB}.{name}={value} is not a multiple of {KNOB}.multiple={multiple} frames. Set it to "
    f"{nearest}."
  )
