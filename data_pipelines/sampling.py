# SPDX-License-Identifier: Apache-2.0
"""How many frames of a video are used, and when. Functions of the index and the config alone, so
that every length and every prompt is known before a frame is decoded."""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

from data_pipelines import sampling_dynamic as dynamic
from data_pipelines.media.probe import Probe, scene_length, timeline_duration
from data_pipelines.records import Timeline

PHASES = ("ends", "middle", "random", "released")


@dataclasses.dataclass(frozen=True)
class Extent:
  """How far a video reaches: seconds, the moment its last frame appears, and frames it holds."""

  duration: float
  last: float
  frames: int


def extent(timeline: Timeline, probes: Mapping[str, Probe]) -> Extent:
  """The extent of a timeline. An unreadable medium counts as one frame that lasts no time."""
  last, frames = 0.0, 0
  for scene in timeline:
    length, fps = scene_length(scene, probes), probes[scene.media].fps
    moving = scene.kind == "video" and fps > 0
    last = max(last, scene.at + (max(0.0, length - 1 / fps) if moving else 0.0))
    frames += max(1, round(length * fps)) if moving else 1
  return Extent(timeline_duration(timeline, probes), last, frames)


def frame_count(sampling: Mapping, extent: Extent, frames_per_group: int) -> int:
  """Frames taken of a video: whole groups, whatever its length (a short one repeats frames).

  Raises ValueError for a sampler or a phase that does not exist, and for a count that is not whole
  groups.
  """
  name = sampling["name"]
  if name not in SAMPLERS:
    raise ValueError(
      f"config.data.sampling.name={name!r} is unknown. Set it to one of {', '.join(SAMPLERS)}.")
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
    index = dynamic.released_index(extent.frames, count)
    return np.minimum(
      dynamic.index_times(index, extent.frames, extent.duration), extent.last)
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
      f"config.data.sampling.phase={phase!r} is unknown. Set it to one of {', '.join(PHASES)}.")
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
      f"(config.model.selector.size). Set {knob} to {near}, or change config.model.selector.size.")
  return count


# name -> f(config.data.sampling, extent, frames per group) -> count.
SAMPLERS: dict[str, Callable[[Mapping, Extent, int], int]] = {
  "uniform": _uniform,
  "dynamic_fps": _dynamic(lambda e, **o: dynamic.dynamic_fps(e.frames, e.duration, **o)),
  "dense_sparse": _dynamic(lambda e, **o: dynamic.dense_sparse(e.frames, e.duration, **o)),
  "first": _dynamic(lambda e, high, **o: dynamic.first(e.duration, high, **o)),
}
