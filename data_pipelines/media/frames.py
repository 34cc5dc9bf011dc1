# SPDX-License-Identifier: Apache-2.0
"""Frames of a video by time: the frame for time t is the one on screen at t (last pts <= t).

Exact at any frame rate, constant or not. Everything wrong with a file is a `MediaError`.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib

import numpy as np

from data_pipelines.media import open as media_lib
from data_pipelines.media import pictures as pictures_lib
from data_pipelines.media.container import kind, open_video
from data_pipelines.media.decoder import TOLERANCE, Decoder, square
from data_pipelines.media.open import LIMITS, Limits, Media, MediaError
from data_pipelines.media.pictures import read_image
from data_pipelines.media.probe import Probe, probe, scene_length
from data_pipelines.sample import Scene, Timeline

__all__ = [
  "TOLERANCE",
  "Limits",
  "MediaError",
  "Probe",
  "probe",
  "read_all",
  "read_frames",
  "read_image",
  "read_timeline",
  "walk",
]

Frames = tuple[np.ndarray, np.ndarray]


def read_frames(
  media: Media,
  times: Sequence[float],
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  fps: float | None = None,
) -> Frames:
  """The frames on screen at `times` [T], in any order, in seconds since the first frame.

  Times outside the video give its first or last frame; `fps` is that of a folder of pictures.
  Returns frames uint8 [T size size 3] and their real times float32 [T]. Raises MediaError.
  """
  times = np.asarray(times, np.float64)
  if times.ndim != 1 or not np.isfinite(times).all():
    raise ValueError(f"times must be one list of finite seconds, but are {times}.")
  frames = np.empty((len(times), size, size, 3), np.uint8)
  seen = np.empty(len(times), np.float32)
  previous = None
  with _opened(media, size, resize, limits, fps) as source:
    for place in np.argsort(times, kind="stable"):
      second, show = source.at(times[place])
      frames[place] = frames[previous[1]] if previous and previous[0] == second else show()
      seen[place], previous = second, (second, place)
  return frames, seen


def walk(
  media: Media,
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  fps: float | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
  """All frames in order: (seconds since the first frame, uint8 [size size 3])."""
  with _opened(media, size, resize, limits, fps) as source:
    for second, show in source.walk():
      yield second, show()


def read_all(
  media: Media,
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  fps: float | None = None,
) -> Frames:
  """All frames uint8 [n size size 3] and their times float64 [n], in n·size²·3 bytes of memory."""
  seconds, frames = zip(*walk(media, size, resize=resize, limits=limits, fps=fps), strict=True)
  return np.stack(frames), np.asarray(seconds, np.float64)


def read_timeline(
  timeline: Timeline,
  times: Sequence[float],
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  read: Callable[..., Frames] = read_frames,
) -> Frames:
  """`read_frames` for times on a timeline: each of its media is opened once.

  Where scenes overlap the later of the tuple is seen; after the end, and in a gap, the scene
  before it stays. `read` may be that of a FrameCache.
  """
  times = np.asarray(times, np.float64)
  probes = (
    {}
    if len(timeline) == 1
    else {scene.media: _sound(scene.media, limits) for scene in timeline if scene.t1 is None}
  )
  ends = [_end(scene, probes) for scene in timeline]
  owners = [_owner(timeline, ends, t) for t in times]
  places = collections.defaultdict(list)
  for place, scene in enumerate(owners):
    places[scene.media].append(place)
  frames = np.empty((len(times), size, size, 3), np.uint8)
  seen = np.empty(len(times), np.float32)
  for media, here in places.items():
    local = [_inside(owners[place], times[place]) for place in here]
    frames[here], seconds = read(media, local, size, resize=resize, limits=limits)
    seen[here] = [_outside(owners[p], s) for p, s in zip(here, seconds, strict=True)]
  return frames, seen


def _sound(media: str, limits: Limits) -> Probe:
  found = probe(media, limits)
  if found.error:
    raise MediaError(found.error)
  return found


def _end(scene: Scene, probes) -> float:
  """Where a scene ends on its timeline. An open end of the only scene needs no look at the file."""
  if scene.t1 is not None and scene.kind == "video":
    return scene.at + scene.t1 - scene.t0
  return scene.at + scene_length(scene, probes) if probes or scene.kind != "video" else np.inf


def _owner(timeline: Timeline, ends: Sequence[float], t: float) -> Scene:
  """The scene that is seen at t."""
  begun = [i for i, scene in enumerate(timeline) if scene.at <= t + TOLERANCE]
  if not begun:
    return min(timeline, key=lambda scene: scene.at)
  running = [i for i in begun if t + TOLERANCE < ends[i]]
  return timeline[running[-1] if running else max(begun, key=lambda i: (ends[i], i))]


def _inside(scene: Scene, t: float) -> float:
  """Time on the timeline -> time in the scene's media; never the frame that begins at t1."""
  if scene.kind != "video":
    return scene.t0
  t = max(0.0, t - scene.at) + scene.t0
  return t if scene.t1 is None else max(scene.t0, min(t, scene.t1 - 2 * TOLERANCE))


def _outside(scene: Scene, second: float) -> float:
  """Time in the scene's media -> time on the timeline."""
  return scene.at + (max(0.0, second - scene.t0) if scene.kind == "video" else 0.0)


@contextlib.contextmanager
def _opened(media: Media, size: int, resize: str, limits: Limits, fps: float | None):
  """A source of frames: at(t) for rising times and walk(), both giving (second, make picture)."""
  pictures_lib.placed(1, 1, size, resize)  # A wrong `resize` is the caller's error, not the file's.
  what = kind(media)
  if what == "video":
    with open_video(media, limits) as video, media_lib.reported(media):
      yield Decoder(video, lambda frame: square(frame, size, resize))
    return
  pictures = [media] if what == "image" else media_lib.folder(media)
  rate = fps or media_lib.folder_fps(media) if what == "folder" else 1.0
  budget = media_lib.Budget(media, limits)

  def show(picture: Media) -> np.ndarray:
    budget.spend()
    return read_image(picture, size, resize=resize, limits=limits)

  yield _Pictures(pictures, rate, show)


class _Pictures:
  """Pictures shown one after the other at a constant rate."""

  def __init__(self, pictures: Sequence[Media], rate: float, show: Callable):
    self.pictures, self.rate, self.show = pictures, rate, show

  def at(self, t: float):
    index = int(np.clip(np.floor((t + TOLERANCE) * self.rate), 0, len(self.pictures) - 1))
    return index / self.rate, lambda: self.show(self.pictures[index])

  def walk(self):
    return (self.at(index / self.rate) for index in range(len(self.pictures)))
