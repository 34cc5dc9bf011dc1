# SPDX-License-Identifier: Apache-2.0
"""How many frames of a video are used, and when. Functions of the index and the config alone, so
that every length and every prompt is known before a frame is decoded."""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

from data_pipelines.media.probe import Probe, scene_length, timeline_duration
from data_pipelines.packing import dynamic_sampling as dynamic
from data_pipelines.sample import Scene, Timeline

_RELEASED_MARGIN = 0.1  # Seconds before the end of a file at which VideoChat-Flash ends a part.

PHASES = ("ends", "middle", "random", "released")


@dataclasses.dataclass(frozen=True)
class Extent:
  """How far a video reaches: seconds, the moment its last frame appears, and frames it holds.

  `source` tells when the frames of a single file are on screen, `first` is the number of the file's
  frame that frame 0 of the extent is, and `begin` the file's second at second 0.
  """

  duration: float
  last: float
  frames: int
  source: Probe | None = dataclasses.field(default=None, compare=False)
  first: int = dataclasses.field(default=0, compare=False)
  begin: float = dataclasses.field(default=0.0, compare=False)

  def times(self, numbers: np.ndarray) -> np.ndarray:
    """Seconds f64 [n] at which the frames with these numbers (from 0) are on screen."""
    if self.source is not None:
      seconds = self.source.times(np.asarray(numbers) + self.first)
      return np.minimum(seconds, self.source.last_time) - self.begin
    return np.minimum(dynamic.index_times(numbers, self.frames, self.duration), self.last)


def extent(
  timeline: Timeline, probes: Mapping[str, Probe], sampling: Mapping | None = None
) -> Extent:
  """The extent of a timeline. An unreadable medium counts as one frame that lasts no time.

  `sampling` is the config's, where it decides how far a part reaches (phase "released").
  """
  if is_released(timeline, sampling) and probes[timeline[0].media].fps > 0:
    return _released(timeline[0], probes[timeline[0].media])
  last, frames = 0.0, 0
  for scene in timeline:
    length, fps = scene_length(scene, probes), probes[scene.media].fps
    moving = scene.kind == "video" and fps > 0
    last = max(last, scene.at + (_last(scene, length, probes[scene.media]) if moving else 0.0))
    frames += max(1, round(_held(scene, length, probes[scene.media]))) if moving else 1
  return Extent(timeline_duration(timeline, probes), last, frames)


def _last(scene: Scene, length: float, probe: Probe) -> float:
  """Seconds from the beginning of a scene until its last frame appears."""
  whole = max(0.0, probe.last_time - scene.t0)
  if scene.t1 is None or scene.t1 >= probe.duration:
    return min(whole, length)
  # At a varying rate frames may appear until the part ends.
  return min(whole, length if probe.corners else max(0.0, length - 1 / probe.fps))


def _held(scene: Scene, length: float, probe: Probe) -> float:
  """How many frames a scene holds, about."""
  if not probe.corners:
    return length * probe.fps
  return float(np.diff(probe.numbers(np.array([scene.t0, scene.t0 + length])))[0])


def is_released(timeline: Timeline, sampling: Mapping | None) -> bool:
  """Whether frames are taken by number, as VideoChat-Flash takes those of one file."""
  if sampling is None or sampling.get("phase") != "released" or sampling["name"] == "first":
    return False
  return len(timeline) == 1 and timeline[0].kind == "video"


def _released(scene: Scene, probe: Probe) -> Extent:
  """What VideoChat-Flash takes for a file, or for its part from t0 to t1.

  A part ends 0.1 s before the file at the latest, and holds int(seconds * fps) frames from frame
  int(t0 * fps) on, at the mean rate: whichever they are, where the rate varies.
  """
  if scene.t0 == 0.0 and scene.t1 is None:
    return Extent(probe.duration, scene.at + probe.last_time, probe.frames, probe, 0, -scene.at)
  end = probe.duration - _RELEASED_MARGIN
  if scene.t1 is not None:
    end = min(end, scene.t1)
  duration = max(0.0, end - scene.t0)
  last = max(0.0, min(probe.last_time, end) - scene.t0)
  return Extent(
    duration,
    scene.at + last,
    max(1, int(duration * probe.fps)),
    probe,
    int(scene.t0 * probe.fps),
    scene.t0 - scene.at,
  )


def readable(timeline: Timeline, sampling: Mapping) -> Timeline:
  """The timeline from which the times of `sample_times` are read.

  The frames that VideoChat-Flash takes for a part may lie outside it, where the rate varies: then
  the file is open at both ends, at the same seconds.
  """
  if not is_released(timeline, sampling):
    return timeline
  scene = timeline[0]
  return (dataclasses.replace(scene, t0=0.0, t1=None, at=scene.at - scene.t0),)


def frame_count(sampling: Mapping, extent: Extent, frames_per_group: int) -> int:
  """Frames taken of a video: whole groups, whatever its length (a short one repeats frames).

  Raises ValueError for a sampler or a phase that does not exist, and for a count that is not whole
  groups.
  """
  name = sampling["name"]
  if name not in SAMPLERS:
    raise ValueError(
      f"config.data.sampling.name={name!r} is unknown. Set it to one of {', '.join(SAMPLERS)}."
    )
  return SAMPLERS[name](sampling, extent, frames_per_group)


def sample_times(sampling: Mapping, count: int, extent: Extent, phase: float = 0.5) -> np.ndarray:
  """Seconds of `count` frames, f64 [T], ascending, none after the last frame appears.

  Phase "ends" reaches from the first to the last frame (LLaVA's linspace); "middle" takes the
  middles of equal intervals; "random" the same place `phase` in [0, 1) of every interval;
  "released" the frames of VideoChat-Flash's index rule. The sampler "first" has times of its own.
  """
  if sampling["name"] == "first":
    return dynamic.first_times(count, extent.last, sampling.get("fps", 1.0))
  if sampling["phase"] == "released":
    return extent.times(dynamic.released_index(extent.frames, count))
  if sampling["phase"] == "ends":
    return np.linspace(0.0, extent.last, count)
  offset = phase if sampling["phase"] == "random" else 0.5
  return np.minimum((np.arange(count) + offset) * (extent.duration / count), extent.last)


def random_phase(seed: int, epoch: int, sample: int) -> float:
  """The one phase in [0, 1) of a sample in an epoch."""
  return float(np.random.default_rng((seed, epoch, sample)).random())


def _phase(sampling: Mapping) -> str:
  if (phase := sampling["phase"]) not in PHASES:
    raise ValueError(
      f"config.data.sampling.phase={phase!r} is unknown. Set it to one of {', '.join(PHASES)}."
    )
  return phase


def _uniform(sampling: Mapping, extent: Extent, frames_per_group: int) -> int:
  """The same count for every video."""
  del extent
  _phase(sampling)
  return whole_groups(sampling["frames"], frames_per_group, "config.data.sampling.frames")


def _dynamic(rule: Callable) -> Callable[[Mapping, Extent, int], int]:
  """A sampler of sampling_dynamic: from `low` frames to at most `frames`, in steps of `multiple`
  (default: the frames of a group), and what else its rule takes."""

  def count(sampling: Mapping, extent: Extent, frames_per_group: int) -> int:
    _phase(sampling)
    options = {k: v for k, v in sampling.items() if k not in ("name", "phase", "frames")}
    multiple = options.pop("multiple", frames_per_group)
    whole_groups(multiple, frames_per_group, "config.data.sampling.multiple")
    try:
      return rule(extent, high=sampling["frames"], multiple=multiple, **options)
    except TypeError as error:
      raise ValueError(f"config.data.sampling={dict(sampling)!r}: {error}.") from None

  return count


def whole_groups(count: int, frames_per_group: int, knob: str) -> int:
  """`count`, or a ValueError that names both knobs if it is not a positive number of groups."""
  if count < 1 or count % frames_per_group:
    near = max(1, round(count / frames_per_group)) * frames_per_group
    raise ValueError(
      f"{knob}={count} is not a multiple of the {frames_per_group} frames that the model merges "
      f"(config.model.selector.size). Set {knob} to {near}, or change config.model.selector.size."
    )
  return count


# name -> f(config.data.sampling, extent, frames per group) -> count.
SAMPLERS: dict[str, Callable[[Mapping, Extent, int], int]] = {
  "uniform": _uniform,
  "dynamic_fps": _dynamic(lambda e, **o: dynamic.dynamic_fps(e.frames, e.duration, **o)),
  "dense_sparse": _dynamic(lambda e, **o: dynamic.dense_sparse(e.frames, e.duration, **o)),
  "first": _dynamic(lambda e, high, **o: dynamic.first(e.duration, high, **o)),
}
