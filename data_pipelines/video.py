# SPDX-License-Identifier: Apache-2.0
"""Frames of a video by time: the frame for time t is the one on screen at t (last pts <= t).

Exact at any frame rate, constant or not. Frames are resized while they are converted to RGB, by
swscale's bicubic with full chroma: 0.2 of 255 away from Pillow's bicubic on average, at a third of
its cost. Everything wrong with a file is a `MediaError`.
"""

import bisect
import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import threading

import av
from av.video.reformatter import Interpolation, VideoReformatter
import numpy as np

from data_pipelines import media as media_lib
from data_pipelines.media import LIMITS, Limits, Media, MediaError, Video, read_image
from data_pipelines.probe import Probe, probe, scene_length
from data_pipelines.records import Scene, Timeline

__all__ = [
  "Limits", "MediaError", "Probe", "probe", "read_all", "read_frames", "read_image",
  "read_timeline", "walk"]

# Containers round their clocks, some to a millisecond: a frame this much late still counts.
TOLERANCE = 5e-4

_SCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_END = (np.inf, None)  # What follows the last frame.
_local = threading.local()  # A reformatter that two threads share crashes the process.

Frames = tuple[np.ndarray, np.ndarray]


def read_frames(
    media: Media, times: Sequence[float], size: int, *, resize: str = "squash",
    limits: Limits = LIMITS, fps: float | None = None) -> Frames:
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
    media: Media, size: int, *, resize: str = "squash", limits: Limits = LIMITS,
    fps: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
  """All frames in order: (seconds since the first frame, uint8 [size size 3])."""
  with _opened(media, size, resize, limits, fps) as source:
    for second, show in source.walk():
      yield second, show()


def read_all(
    media: Media, size: int, *, resize: str = "squash", limits: Limits = LIMITS,
    fps: float | None = None) -> Frames:
  """All frames uint8 [n size size 3] and their times float64 [n], in n·size²·3 bytes of memory."""
  seconds, frames = zip(*walk(media, size, resize=resize, limits=limits, fps=fps), strict=True)
  return np.stack(frames), np.asarray(seconds, np.float64)


def read_timeline(
    timeline: Timeline, times: Sequence[float], size: int, *, resize: str = "squash",
    limits: Limits = LIMITS, read: Callable[..., Frames] = read_frames) -> Frames:
  """`read_frames` for times on a timeline: each of its media is opened once.

  Where scenes overlap the later of the tuple is seen; after the end, and in a gap, the scene
  before it stays. `read` may be that of a FrameCache.
  """
  times = np.asarray(times, np.float64)
  probes = {} if len(timeline) == 1 else {
    scene.media: _sound(scene.media, limits) for scene in timeline if scene.t1 is None}
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
  media_lib.placed(1, 1, size, resize)  # A wrong `resize` is the caller's error, not the file's.
  what = media_lib.kind(media)
  if what == "video":
    with media_lib.open_video(media, limits) as video, media_lib.reported(media):
      yield _Decoder(video, lambda frame: _picture(frame, size, resize))
    return
  pictures = [media] if what == "image" else media_lib.folder(media)
  rate = fps or media_lib.folder_fps(media) if what == "folder" else 1.0
  budget = media_lib.Budget(media, limits)

  def show(picture: Media) -> np.ndarray:
    budget.spend()
    return read_image(picture, size, resize=resize)

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


class _Decoder:
  """Decodes one open video by rising time.

  It jumps only where a key frame lies between its position and the next wanted time: never much
  worse than reading through, nor than seeking for every frame.
  """

  def __init__(self, video: Video, show: Callable[[av.VideoFrame], np.ndarray]):
    self.video, self.show = video, show
    self.shown, self.ahead = None, None  # (second, frame) on screen, and the one after it.
    self.frames = self._decode()
    self.target = self.best = -np.inf  # Ticks: what is wanted, and the latest packet up to it.
    self.recent = collections.deque(maxlen=64)  # Ticks of packets, more than codecs reorder.

  def at(self, t: float):
    """(second, make picture) of the frame on screen at t, which may not fall."""
    t += TOLERANCE
    position = self.ahead[0] if self.ahead else 0.0
    if (key := self._key(t)) > position:
      self._seek(t, key)
    self._aim(t)
    while self.ahead is None or self.ahead[0] <= t:
      self._advance()
    second, frame = self.shown or self.ahead
    return second, lambda: self.show(frame)

  def walk(self):
    while self.ahead is not _END:
      self._advance()
      if self.ahead is not _END:
        second, frame = self.ahead
        yield second, lambda frame=frame: self.show(frame)

  def _key(self, t: float) -> float:
    """The last key frame up to t, as far as the index tells."""
    place = bisect.bisect_right(self.video.keys, t)
    return self.video.keys[place - 1] if place else -np.inf

  def _seek(self, t: float, key: float):
    """Puts a frame up to t next. Landing late (the index holds estimates) means trying earlier."""
    for point in (key, t - 2, t - 10, t - 60, 0.0):
      ticks = self.video.start + round(max(0.0, point) / self.video.tick)
      self.video.container.seek(ticks, stream=self.video.stream, backward=True)
      self.frames, self.shown = self._decode(), None
      self.recent.clear()
      self._aim(t)
      self.ahead = next(self.frames, _END)
      if self.ahead[0] <= t:
        return

  def _advance(self):
    self.shown = self.ahead or self.shown
    self.ahead = next(self.frames, _END)
    if self.ahead is _END:
      if self.shown is None:
        raise MediaError(f"{self.video.name}: has no frame that can be decoded.")
      if self.shown[0] < self.video.last - self.video.tick:
        raise MediaError(
          f"{self.video.name}: ends at {self.shown[0]:.2f} s, but its index names frames to "
          f"{self.video.last:.2f} s.")

  def _aim(self, t: float):
    self.target = self.video.start + t / self.video.tick
    self.best = max((ticks for ticks in self.recent if ticks <= self.target), default=-np.inf)

  def _hidden(self, ticks: int | None) -> bool:
    """Whether another frame covers this one before the wanted time."""
    if ticks is None:
      return False
    self.recent.append(ticks)
    if ticks <= self.target:
      self.best = max(self.best, ticks)
    return ticks < self.best

  def _decode(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """(second, frame) in order. Frames that are hidden and that no other builds on are skipped."""
    codec, latest = self.video.stream.codec_context, -np.inf
    for packet in self.video.packets():
      codec.skip_frame = "NONREF" if self._hidden(packet.pts) else "DEFAULT"
      for frame in packet.decode():
        ticks = frame.dts if frame.pts is None else frame.pts
        if frame.is_corrupt or ticks is None:
          raise MediaError(f"{self.video.name}: is damaged after {max(latest, 0.0):.2f} s.")
        if (second := self.video.seconds(ticks)) > latest:
          latest = second
          yield second, frame


def _picture(frame: av.VideoFrame, size: int, resize: str) -> np.ndarray:
  """A decoded frame as uint8 [size size 3], turned as its file says."""
  if not hasattr(_local, "reformatter"):
    _local.reformatter = VideoReformatter()
  turns = round(frame.rotation / 90) % 4
  swap = slice(None, None, -1 if turns % 2 else 1)
  width, height = media_lib.placed(*(frame.width, frame.height)[swap], size, resize)[swap]
  rgb = _local.reformatter.reformat(
    frame, width=width, height=height, format="rgb24", interpolation=_SCALE, threads=1)
  return media_lib.framed(np.rot90(rgb.to_ndarray(), turns), size)
