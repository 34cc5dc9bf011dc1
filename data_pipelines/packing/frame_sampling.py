# SPDX-License-Identifier: Apache-2.0
"""Frame counts and frame times of a video.

They depend only on the media index and the config. So all lengths and prompts are known before a
frame is decoded.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.media.probe import Probe, scene_length, timeline_duration
from data_pipelines.packing import dynamic_sampling as dynamic
from data_pipelines.sample import Scene, Timeline

_RELEASED_MARGIN = 0.1  # The fewest seconds between a part and the end of its file, if "released".
_MIDDLE = 0.5  # The phase of a frame in the middle of its interval.

PHASES = ("ends", "middle", "random", "released")

Sampling = Mapping[str, Any]  # config.data.sampling


@dataclasses.dataclass(frozen=True)
class Extent:
  """Duration, time of the last frame, and number of frames.

  For a single file, `source` knows the times of its frames. Frame 0 of the extent is then frame
  `first` of the file, and second 0 is second `begin`.
  """

  duration: float
  last: float
  frames: int
  source: Probe | None = dataclasses.field(default=None, compare=False)
  first: int = dataclasses.field(default=0, compare=False)
  begin: float = dataclasses.field(default=0.0, compare=False)

  def times(self, numbers: np.ndarray) -> np.ndarray:
    """The seconds of frames, f64 [n], from their numbers (from 0)."""
    if self.source is None:
      seconds = dynamic.index_times(numbers, self.frames, self.duration)
      return np.minimum(seconds, self.last)
    in_file = np.asarray(numbers) + self.first
    seconds = self.source.times(in_file)
    return np.minimum(seconds, self.source.last_time) - self.begin


def extent(
  timeline: Timeline,
  probes: Mapping[str, Probe],
  sampling: Sampling | None = None,
) -> Extent:
  """The extent of a timeline.

  An unreadable medium counts as one frame of length zero. sampling: config.data.sampling, whose
  phase "released" shortens a part.
  """
  first = timeline[0]
  if is_released(timeline, sampling) and probes[first.media].fps > 0:
    return _released_extent(first, probes[first.media])
  last = 0.0
  frames = 0
  for scene in timeline:
    probe = probes[scene.media]
    if scene.kind != "video" or probe.fps <= 0:
      last = max(last, scene.at)
      frames += 1
      continue
    length = scene_length(scene, probes)
    last_of_scene = scene.at + _last_frame(scene, length, probe)
    last = max(last, last_of_scene)
    held = _frames_of_scene(scene, length, probe)
    frames += max(1, round(held))
  return Extent(timeline_duration(timeline, probes), last, frames)


def _last_frame(scene: Scene, length: float, probe: Probe) -> float:
  """Seconds from the beginning of a scene to its last frame."""
  of_file = max(0.0, probe.last_time - scene.t0)
  if scene.t1 is None or scene.t1 >= probe.duration:
    return min(of_file, length)
  if probe.corners:  # The rate varies, so a frame may appear at any time before the part ends.
    return min(of_file, length)
  return min(of_file, max(0.0, length - 1 / probe.fps))


def _frames_of_scene(scene: Scene, length: float, probe: Probe) -> float:
  """The approximate number of frames of a scene."""
  if not probe.corners:
    return length * probe.fps
  seconds = np.array([scene.t0, scene.t0 + length])
  start, end = probe.numbers(seconds)
  return float(end - start)


def is_released(timeline: Timeline, sampling: Sampling | None) -> bool:
  """Whether frames are taken by number: phase "released", and a single file."""
  if sampling is None or sampling.get("phase") != "released":
    return False
  if sampling["name"] == "first":
    return False
  return len(timeline) == 1 and timeline[0].kind == "video"


def _released_extent(scene: Scene, probe: Probe) -> Extent:
  """VideoChat-Flash's extent of a file, or of its part t0..t1.

  A part ends at least 0.1 s before the end of the file. It has int(seconds * fps) frames, beginning
  with frame int(t0 * fps). fps is the mean rate, even if the rate varies.
  """
  if scene.t0 == 0.0 and scene.t1 is None:
    return Extent(
      duration=probe.duration,
      last=scene.at + probe.last_time,
      frames=probe.frames,
      source=probe,
      begin=-scene.at,
    )
  end = probe.duration - _RELEASED_MARGIN
  if scene.t1 is not None:
    end = min(end, scene.t1)
  duration = max(0.0, end - scene.t0)
  last_in_file = min(probe.last_time, end)
  last = max(0.0, last_in_file - scene.t0)
  return Extent(
    duration=duration,
    last=scene.at + last,
    frames=max(1, int(duration * probe.fps)),
    source=probe,
    first=int(scene.t0 * probe.fps),
    begin=scene.t0 - scene.at,
  )


def readable(timeline: Timeline, sampling: Sampling) -> Timeline:
  """The timeline from which the frames at `sample_times` are decoded.

  If the rate varies, the frames that VideoChat-Flash takes for a part may lie outside the part. So
  for phase "released" the scene covers the whole file, with the same seconds.
  """
  if not is_released(timeline, sampling):
    return timeline
  scene = timeline[0]
  file = dataclasses.replace(scene, t0=0.0, t1=None, at=scene.at - scene.t0)
  return (file,)


def frame_count(sampling: Sampling, extent: Extent, unit: int) -> int:
  """The number of frames taken of a video, a multiple of `unit`.

  unit: the frames that a model encodes and merges together. A short video repeats frames. Raises
  ValueError for an unknown sampler or phase, and for a count that is no multiple.
  """
  name = sampling["name"]
  if name not in SAMPLERS:
    raise ValueError(
      f"config.data.sampling.name={name!r} is unknown. Set it to one of {', '.join(SAMPLERS)}."
    )
  return SAMPLERS[name](sampling, extent, unit)


def sample_times(
  sampling: Sampling,
  count: int,
  extent: Extent,
  phase: float = _MIDDLE,
) -> np.ndarray:
  """Seconds of `count` frames: f64 [T], ascending, up to the last frame.

  The phases:

    ends      evenly from the first to the last frame, as LLaVA's linspace
    middle    the middles of equal intervals
    random    the same position `phase` in [0, 1) of every interval
    released  the frames of VideoChat-Flash's index rule

  The sampler "first" ignores the phase.
  """
  if sampling["name"] == "first":
    fps = sampling.get("fps", 1.0)
    return dynamic.first_times(count, extent.last, fps)
  if sampling["phase"] == "released":
    numbers = dynamic.released_index(extent.frames, count)
    return extent.times(numbers)
  if sampling["phase"] == "ends":
    return np.linspace(0.0, extent.last, count)
  offset = phase if sampling["phase"] == "random" else _MIDDLE
  interval = extent.duration / count
  seconds = (np.arange(count) + offset) * interval
  return np.minimum(seconds, extent.last)


def random_phase(seed: int, epoch: int, sample: int) -> float:
  """The phase in [0, 1) of a sample in an epoch."""
  rng = np.random.default_rng((seed, epoch, sample))
  return float(rng.random())


def _check_phase(sampling: Sampling) -> None:
  phase = sampling["phase"]
  if phase not in PHASES:
    raise ValueError(
      f"config.data.sampling.phase={phase!r} is unknown. Set it to one of {', '.join(PHASES)}."
    )


def whole_units(count: int, unit: int, knob: str) -> int:
  """Returns `count` if it is a positive multiple of `unit`.

  Raises ValueError naming both knobs otherwise.
  """
  if count < 1 or count % unit:
    nearest = max(1, round(count / unit)) * unit
    raise ValueError(
      f"{knob}={count} is not a multiple of the {unit} frames that the model encodes and "
      "merges together (config.model.encoder.clip and config.model.selector.size). Set "
      f"{knob} to {nearest}, or change config.model.selector.size."
    )
  return count


def _uniform(sampling: Sampling, extent: Extent, unit: int) -> int:
  """The same count for every video."""
  del extent
  _check_phase(sampling)
  return whole_units(sampling["frames"], unit, "config.data.sampling.frames")


def _by_rule(rule: Callable[..., int], sampling: Sampling, unit: int) -> int:
  """Calls a rule of dynamic_sampling with `high`, `multiple` and options.

  The count lies between `low` and `frames`, in steps of `multiple` (default: `unit`).
  """
  _check_phase(sampling)
  options = dict(sampling)
  del options["name"], options["phase"]
  high = options.pop("frames")
  multiple = options.pop("multiple", unit)
  whole_units(multiple, unit, "config.data.sampling.multiple")
  try:
    return rule(high=high, multiple=multiple, **options)
  except TypeError as error:
    raise ValueError(f"config.data.sampling={dict(sampling)!r}: {error}.") from None


def _dynamic_fps(sampling: Sampling, extent: Extent, unit: int) -> int:
  def rule(**options) -> int:
    return dynamic.dynamic_fps(extent.frames, extent.duration, **options)

  return _by_rule(rule, sampling, unit)


def _dense_sparse(sampling: Sampling, extent: Extent, unit: int) -> int:
  def rule(**options) -> int:
    return dynamic.dense_sparse(extent.frames, extent.duration, **options)

  return _by_rule(rule, sampling, unit)


def _first(sampling: Sampling, extent: Extent, unit: int) -> int:
  def rule(high: int, **options) -> int:
    return dynamic.first(extent.duration, high, **options)

  return _by_rule(rule, sampling, unit)


# name -> f(config.data.sampling, extent, unit) -> count.
SAMPLERS: dict[str, Callable[[Sampling, Extent, int], int]] = {
  "uniform": _uniform,
  "dynamic_fps": _dynamic_fps,
  "dense_sparse": _dense_sparse,
  "first": _first,
}
