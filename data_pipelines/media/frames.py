# SPDX-License-Identifier: Apache-2.0
"""Reads frames of a video by time.

The frame on screen at t is the last frame whose display time is not after t. This is exact at
constant and at varying frame rates. Every fault of a file raises `MediaError`.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib

import numpy as np

from data_pipelines.media.container import media_kind, open_video
from data_pipelines.media.content import check_plays
from data_pipelines.media.decoder import TOLERANCE, LazyPicture, VideoDecoder, full_picture, square
from data_pipelines.media.open import (
  LIMITS,
  Budget,
  Limits,
  Media,
  MediaError,
  folder_fps,
  folder_pictures,
  reported,
)
from data_pipelines.media.pictures import inner_size, read_image
from data_pipelines.media.probe import Probe, probe, scene_length
from data_pipelines.sample import Scene, Timeline

__all__ = [
  "TOLERANCE",
  "Limits",
  "MediaError",
  "Probe",
  "probe",
  "read_frames",
  "read_image",
  "read_picture",
  "read_timeline",
  "walk",
]

Times = Sequence[float] | np.ndarray  # Seconds [T].
Frames = tuple[np.ndarray, np.ndarray]  # Pictures uint8 [T size size 3] and their seconds [T].


def read_frames(
  media: Media,
  times: Times,
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  fps: float | None = None,
) -> Frames:
  """The frames on screen at `times` [T].

  times: seconds since the first frame, in any order; times outside of the video give its first or
  last frame. fps: the rate of a folder of pictures. Returns the frames uint8 [T size size 3] and
  their real times float64 [T]. Raises MediaError.
  """
  wanted = np.asarray(times, np.float64)
  if wanted.ndim != 1 or not np.isfinite(wanted).all():
    raise ValueError(f"times must be one list of finite seconds, but are {wanted}.")
  frames = np.empty((len(wanted), size, size, 3), np.uint8)
  seconds = np.empty(len(wanted), np.float64)
  previous_second = None
  previous_place = 0
  with _opened(media, size, resize, limits, fps) as source:
    order = np.argsort(wanted, kind="stable")
    source.expect(wanted[order].tolist())
    for place in order:
      second, make_picture = source.frame_at(wanted[place])
      if second == previous_second:
        frames[place] = frames[previous_place]
      else:
        frames[place] = make_picture()
      seconds[place] = second
      previous_second = second
      previous_place = place
  return frames, seconds


def read_picture(scene: Scene, limits: Limits = LIMITS) -> np.ndarray:
  """The picture of a scene of kind "image", uint8 [h w 3].

  With t1 it is the frame of a video on screen at t0. Raises MediaError.
  """
  if scene.t1 is None:
    return read_image(scene.media, limits=limits)
  with open_video(scene.media, limits) as video, reported(scene.media):
    decoder = VideoDecoder(video, full_picture)
    decoder.expect([scene.t0])
    _, make_picture = decoder.frame_at(scene.t0)
    return make_picture()


def walk(
  media: Media,
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  fps: float | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
  """All frames in order as (second, uint8 [size size 3]).

  Seconds count from the first frame.
  """
  with _opened(media, size, resize, limits, fps) as source:
    for second, make_picture in source.walk():
      yield second, make_picture()


def read_timeline(
  timeline: Timeline,
  times: Times,
  size: int,
  *,
  resize: str = "squash",
  limits: Limits = LIMITS,
  read: Callable[..., Frames] = read_frames,
) -> Frames:
  """`read_frames` for times on a timeline; opens each medium once.

  Where scenes overlap, the one later in the tuple is shown. In a gap and after the end, the last
  frame of the previous scene stays. read: `read_frames`, or the method of a FrameCache.
  """
  wanted = np.asarray(times, np.float64)
  ends = np.array(_scene_ends(timeline, limits))
  owners = _owners(timeline, ends, wanted)
  places_of_media = collections.defaultdict(list)
  for place, scene in enumerate(owners):
    places_of_media[scene.media].append(place)
  frames = np.empty((len(wanted), size, size, 3), np.uint8)
  seconds = np.empty(len(wanted), np.float64)
  for media, places in places_of_media.items():
    media_times = [_media_time(owners[place], wanted[place]) for place in places]
    frames[places], media_seconds = read(media, media_times, size, resize=resize, limits=limits)
    for place, second in zip(places, media_seconds, strict=True):
      seconds[place] = _timeline_time(owners[place], second)
  return frames, seconds


def _scene_ends(timeline: Timeline, limits: Limits) -> list[float]:
  """The ends of a timeline's scenes.

  Raises MediaError for an unreadable medium.
  """
  probes = {}
  if len(timeline) > 1:  # An open end of the only scene needs no probe.
    for scene in timeline:
      if scene.t1 is None:
        probes[scene.media] = _sound_probe(scene.media, limits)
  return [_end(scene, probes) for scene in timeline]


def _sound_probe(media: str, limits: Limits) -> Probe:
  """The facts of a medium. Raises MediaError for an unreadable medium."""
  facts = probe(media, limits)
  if facts.error:
    raise MediaError(facts.error)
  return facts


def _end(scene: Scene, probes: Mapping[str, Probe]) -> float:
  """The end of a scene; infinity for an open end without probes."""
  if scene.t1 is not None and scene.kind == "video":
    return scene.at + scene.t1 - scene.t0
  if not probes and scene.kind == "video":
    return np.inf
  return scene.at + scene_length(scene, probes)


def _owners(timeline: Timeline, ends: np.ndarray, times: np.ndarray) -> list[Scene]:
  """The scene that is shown at each time.

  ends: seconds at which the scenes end, float64 [S]. times: seconds, float64 [T].
  """
  starts = np.array([scene.at for scene in timeline])
  owners = []
  for now in times + TOLERANCE:
    begun = starts <= now
    running = np.flatnonzero(begun & (now < ends))
    if len(running):
      number = running[-1]
    elif begun.any():
      latest_end = ends[begun].max()
      number = np.flatnonzero(begun & (ends == latest_end))[-1]
    else:
      number = starts.argmin()
    owners.append(timeline[number])
  return owners


def _media_time(scene: Scene, t: float) -> float:
  """Time on the timeline -> time in the scene's media.

  The result stays before t1: a frame that begins at t1 is not part of the scene.
  """
  if scene.kind != "video":
    return scene.t0
  second = max(0.0, t - scene.at) + scene.t0
  if scene.t1 is None:
    return second
  return max(scene.t0, min(second, scene.t1 - 2 * TOLERANCE))


def _timeline_time(scene: Scene, second: float) -> float:
  """Time in the scene's media -> time on the timeline."""
  if scene.kind != "video":
    return scene.at
  return scene.at + max(0.0, second - scene.t0)


@contextlib.contextmanager
def _opened(media: Media, size: int, resize: str, limits: Limits, fps: float | None):
  """Opens a medium as a source of LazyPictures.

  The source has frame_at(t) for ascending times, and walk().
  """
  inner_size(1, 1, size, resize)  # A wrong `resize` is the caller's error, not the file's.
  kind = media_kind(media)
  if kind == "video":
    with open_video(media, limits) as video, reported(media):
      yield VideoDecoder(video, lambda frame: square(frame, size, resize))
    return
  pictures: Sequence[Media] = [media]
  rate = 1.0
  if kind == "image":
    check_plays(media)
  else:
    pictures = folder_pictures(media)
    rate = fps or folder_fps(media)
  budget = Budget(media, limits)

  def show(picture: Media) -> np.ndarray:
    budget.spend()
    return read_image(picture, size, resize=resize, limits=limits)

  yield _Pictures(pictures, rate, show)


class _Pictures:
  """Pictures shown in sequence at a constant rate."""

  def __init__(self, pictures: Sequence[Media], rate: float, show: Callable):
    self.pictures = pictures
    self.rate = rate
    self.show = show

  def expect(self, times: Sequence[float]) -> None:
    """Nothing: pictures are read one by one."""

  def frame_at(self, t: float) -> LazyPicture:
    number = np.floor((t + TOLERANCE) * self.rate)
    index = int(np.clip(number, 0, len(self.pictures) - 1))
    return index / self.rate, lambda: self.show(self.pictures[index])

  def walk(self) -> Iterator[LazyPicture]:
    for index in range(len(self.pictures)):
      yield self.frame_at(index / self.rate)
