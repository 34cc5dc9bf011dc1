# SPDX-License-Identifier: Apache-2.0
"""What planning must know of a medium before a pixel is read."""

from collections.abc import Mapping
import dataclasses

from data_pipelines.media import open as media_lib
from data_pipelines.media import pictures as pictures_lib
from data_pipelines.media.open import LIMITS, Limits, Media, MediaError
from data_pipelines.records import Scene, Timeline


@dataclasses.dataclass(frozen=True)
class Probe:
  """Facts of one medium. A picture has 1 frame and duration 0; unreadable media have an `error`."""

  frames: int = 0
  duration: float = 0.0  # Seconds from the first frame to the end of the last.
  fps: float = 0.0  # frames / duration: the mean, where the rate varies.
  start: float = 0.0  # Seconds of the first frame on the file's own clock.
  width: int = 0  # As shown, so after rotation.
  height: int = 0
  rotation: int = 0  # Degrees counter-clockwise that frames are turned by: 0, 90, 180 or 270.
  error: str = ""

  @property
  def last_time(self) -> float:
    """When the last frame appears; exact at a constant frame rate."""
    return self.duration * (self.frames - 1) / self.frames if self.frames else 0.0


def probe(media: Media, limits: Limits = LIMITS) -> Probe:
  """Reads the facts of a file, folder, record or bytes. Never raises: see Probe.error.

  A picture is decoded, so damage shows here; so is a video's first frame, for codecs that cannot be
  read. Of a folder the first picture's head is read. Files without a full
  index (mkv, webm, ts) are demuxed to their end.
  """
  try:
    what = media_lib.kind(media)
    return {"folder": _folder, "image": _image, "video": _video}[what](media, limits)
  except MediaError as error:
    return Probe(error=str(error))


def timeline_duration(timeline: Timeline, probes: Mapping[str, Probe]) -> float:
  """Seconds from a timeline's beginning to the end of its last scene; 0 for a picture."""
  return max(scene.at + scene_length(scene, probes) for scene in timeline)


def scene_length(scene: Scene, probes: Mapping[str, Probe]) -> float:
  """Seconds that a scene lasts. An open end, or one beyond the file, is the file's end."""
  if scene.kind == "image":
    return 0.0
  if scene.kind == "still":
    return (scene.t1 or scene.t0) - scene.t0
  duration = probes[scene.media].duration
  end = duration if scene.t1 is None else min(scene.t1, duration)
  return max(0.0, end - scene.t0)


def _image(media: Media, limits: Limits) -> Probe:
  height, width, _ = pictures_lib.read_image(media, limits=limits).shape
  return Probe(frames=1, width=width, height=height)


def _folder(media: Media, limits: Limits) -> Probe:
  pictures, fps = media_lib.folder(media), media_lib.folder_fps(media)
  width, height = pictures_lib.shown_size(pictures[0], limits)
  return Probe(len(pictures), len(pictures) / fps, fps, width=width, height=height)


def _video(media: Media, limits: Limits) -> Probe:
  with media_lib.open_video(media, limits) as video:
    with media_lib.reported(media):
      first = next((f for p in video.packets() for f in p.decode()), None)
      if first is None:
        raise MediaError(f"{video.name}: has no frame that can be decoded.")
      rotation = round(first.rotation / 90) * 90 % 360
      size = (first.width, first.height)
      count, duration = _extent(video)
  width, height = size[::-1] if rotation % 180 else size
  return Probe(
    count, duration, count / duration if duration else 0.0, video.start * video.tick, width,
    height, rotation)


def _extent(video: media_lib.Video) -> tuple[int, float]:
  """(frames, seconds) of a video, from its index or else by demuxing it."""
  rate = float(video.stream.average_rate or video.stream.guessed_rate or 0)
  if video.count:
    duration = (video.stream.duration or 0) * video.tick
    return video.count, duration or (video.count / rate if rate else 0.0)
  count, end, last = 0, 0.0, 0.0
  video.container.seek(0)
  for packet in video.packets(*video.container.streams):
    if packet.pts is None:
      continue
    last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if packet.stream_index == video.stream.index:
      count += 1
      end = max(end, video.seconds(packet.pts + (packet.duration or 0)))
  _check_complete(video, last)
  return count, end


def _check_complete(video: media_lib.Video, last: float):
  """A file whose header promises much more than it holds was cut off."""
  container = video.container
  if container.duration:
    promised = ((container.start_time or 0) + container.duration) / 1e6  # FFmpeg's microseconds.
    if last < 0.9 * promised - 1:
      raise MediaError(
        f"{video.name}: is truncated: it has {last:.1f} of {promised:.1f} seconds.")
