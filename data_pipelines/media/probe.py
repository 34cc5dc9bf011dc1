# SPDX-License-Identifier: Apache-2.0
"""Facts of a medium, for planning without decoding."""

from collections.abc import Mapping
import dataclasses

import numpy as np

from data_pipelines.media.container import media_kind, open_video
from data_pipelines.media.frame_times import FrameTimes, Tally, frame_times
from data_pipelines.media.open import (
  LIMITS,
  Limits,
  Media,
  MediaError,
  folder_fps,
  folder_pictures,
  reported,
)
from data_pipelines.media.orientation import orientation
from data_pipelines.media.pictures import read_image, shown_size
from data_pipelines.media.reader import PacketReader
from data_pipelines.sample import Scene, Timeline


@dataclasses.dataclass(frozen=True)
class Probe:
  """Facts of one medium.

  A picture has 1 frame and duration 0; unreadable media have an `error`.
  """

  frames: int = 0
  duration: float = 0.0  # Seconds from the first frame to the end of the last.
  fps: float = 0.0  # frames / duration; the nominal rate if both agree to half a frame.
  start: float = 0.0  # Seconds of the first frame on the file's own clock.
  width: int = 0  # As shown, after rotation.
  height: int = 0
  rotation: int = 0  # Counter-clockwise rotation of frames in degrees: 0, 90, 180 or 270.
  # At a varying rate: corners (frame, second) of a line through each frame's time on screen.
  corners: tuple[tuple[float, float], ...] = ()
  mirrored: bool = False  # Whether frames are mirrored left to right before rotation.
  last: float = 0.0  # Seconds from the first frame to the last; see last_time.
  error: str = ""

  def __post_init__(self):
    corners = tuple(map(tuple, self.corners))  # JSON has no tuples.
    object.__setattr__(self, "corners", corners)

  @property
  def last_time(self) -> float:
    """Seconds of the last frame; from the mean rate if unknown."""
    if self.last or not self.frames:
      return self.last
    return self.duration * (self.frames - 1) / self.frames

  def times(self, numbers: np.ndarray) -> np.ndarray:
    """Seconds f64 [n] of frames `numbers` (from 0)."""
    numbers = np.clip(numbers, 0, max(0, self.frames - 1))
    if self.corners:
      frames, seconds = np.transpose(self.corners)
      return np.interp(numbers, frames, seconds)
    step = self.duration / max(self.frames, 1)
    return (numbers + 0.5) * step

  def numbers(self, seconds: np.ndarray) -> np.ndarray:
    """Frames f64 [n] shown until `seconds`, with fractions of a frame."""
    begin = (-0.5, 0.0)
    end = (self.frames - 0.5, self.duration)
    frames, times = np.transpose([begin, *self.corners, end])
    return np.interp(seconds, times, frames) + 0.5


def probe(media: Media, limits: Limits = LIMITS) -> Probe:
  """Reads the facts of a medium. Never raises: see Probe.error.

  A picture and a video's first frame are decoded, to detect damage and unknown codecs. Of a folder
  the header of the first picture is read. Files without a full index (mkv, webm, ts), and files of
  a varying rate with reordered frames, are demuxed to their end.
  """
  try:
    return probe_or_raise(media, limits)
  except MediaError as error:
    return Probe(error=str(error))


def probe_or_raise(media: Media, limits: Limits = LIMITS) -> Probe:
  """The facts of a medium, as `probe`.

  Raises MediaError for an unreadable one.
  """
  kind = media_kind(media)
  if kind == "folder":
    return _folder(media, limits)
  if kind == "image":
    return _image(media, limits)
  return _video(media, limits)


def timeline_duration(timeline: Timeline, probes: Mapping[str, Probe]) -> float:
  """Seconds to the end of a timeline; 0 for a picture."""
  return max(scene.at + scene_length(scene, probes) for scene in timeline)


def scene_length(scene: Scene, probes: Mapping[str, Probe]) -> float:
  """Seconds that a scene lasts.

  An open end, or an end beyond the file, means the end of the file.
  """
  if scene.kind == "image":
    return 0.0
  if scene.kind == "still":
    return (scene.t1 or scene.t0) - scene.t0
  duration = probes[scene.media].duration
  end = duration if scene.t1 is None else min(scene.t1, duration)
  return max(0.0, end - scene.t0)


def _image(media: Media, limits: Limits) -> Probe:
  height, width, _ = read_image(media, limits=limits).shape
  return Probe(frames=1, width=width, height=height)


def _folder(media: Media, limits: Limits) -> Probe:
  pictures = folder_pictures(media)
  fps = folder_fps(media)
  width, height = shown_size(pictures[0], limits)
  duration = len(pictures) / fps
  return Probe(len(pictures), duration, fps, width=width, height=height)


def _video(media: Media, limits: Limits) -> Probe:
  with open_video(media, limits) as video, reported(media):
    tally = Tally(video)
    reader = PacketReader(video, tally.watch, all_streams=not video.ticks)
    _, first = next(reader.frames(), (0, None))
    if first is None:
      raise reader.no_frame()
    turned = orientation(first)
    times = frame_times(video, reader, tally)
    width, height = turned.shown_size(first.width, first.height)
    return Probe(
      frames=times.count,
      duration=times.duration,
      fps=_rate(times, video.rate),
      start=reader.start * video.tick,
      width=width,
      height=height,
      rotation=turned.turns * 90,
      corners=times.corners,
      mirrored=turned.mirrored,
      last=times.last,
    )


def _rate(times: FrameTimes, nominal: float) -> float:
  """The mean frame rate.

  The file's nominal rate if the two differ by less than half a frame in total.
  """
  if not times.duration:
    return 0.0
  if abs(times.count - nominal * times.duration) < 0.5:
    return nominal
  return times.count / times.duration
