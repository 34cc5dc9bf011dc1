# SPDX-License-Identifier: Apache-2.0
"""Opens a file's main video stream and reads its index."""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import itertools
import os
import struct
from typing import BinaryIO

import av

from data_pipelines.media import remote
from data_pipelines.media.content import content_kind, foreign_content
from data_pipelines.media.open import (
  LIMITS,
  Budget,
  LargeFrameError,
  Limits,
  Media,
  MediaError,
  check_pixels,
  file_path,
  is_packed,
  media_name,
  open_file,
  open_packed,
  reported,
)

MOTION_JPEG = (".mjpeg", ".mjpg")  # With these names, consecutive JPEG pictures are a video.

_COVER = av.stream.Disposition.attached_pic  # The cover of an audio file is not a video.
_DEFAULT = av.stream.Disposition.default
_FASTEST = 1000  # Highest plausible frames per second.
_BROADCAST = 0x0200  # AVFMT_TS_DISCONT: clocks of this format leap.

# Formats of FFmpeg whose files list other files, addresses or devices. `media_kind` does not check
# the listed ones: an entry may be an endless pipe, or another user's file.
_LISTS = frozenset(
  (
    "alsa",
    "applehttp",
    "avisynth",
    "concat",
    "dash",
    "fbdev",
    "hls",
    "image2",
    "imf",
    "kmsgrab",
    "lavfi",
    "rtp",
    "rtsp",
    "sap",
    "sdp",
    "vapoursynth",
    "video4linux2",
    "vobsub",
    "webm_dash_manifest",
    "x11grab",
  )
)


@dataclasses.dataclass(frozen=True)
class OpenVideo:
  """An open video and its index.

  A tick is one unit of the stream's time base.
  """

  name: str
  container: av.container.InputContainer
  stream: av.video.stream.VideoStream
  budget: Budget
  tick: float  # Seconds.
  ticks: tuple[int, ...] = ()  # Decoding times of shown frames; () = no full index.
  origin: int = 0  # Decoding time of the index's first frame, shown or not.
  keys: tuple[int, ...] = ()  # Decoding times of seekable key frames, ascending.

  @property
  def rate(self) -> float:
    """Frames per second from the file or FFmpeg's guess; 0 if unknown."""
    rate = float(self.stream.average_rate or self.stream.guessed_rate or 0)
    return rate if rate <= _FASTEST else 0.0  # FFmpeg's guess may be the stream's time base.

  @property
  def frame_ticks(self) -> float:
    """Ticks from frame to frame at `rate`; 0 without a rate."""
    if not self.rate:
      return 0.0
    return 1 / (self.rate * self.tick)

  @property
  def edited(self) -> bool:
    """Whether the format has edit lists, which hide or repeat frames."""
    return self.container.format.name.startswith("mov,")

  @property
  def hides_frames(self) -> bool:
    """Whether an edit list hides frames before or after the shown ones."""
    return self.edited and len(self.ticks) < len(self.stream.index_entries)

  @property
  def broadcast(self) -> bool:
    """Whether the format's clocks may leap, as in MPEG-TS."""
    return is_broadcast(self.container)

  def cues(self) -> tuple[int, ...]:
    """Display times of the key frames in Matroska cues.

    () for other files. Call it before anything is read: the file is then at its beginning.
    """
    if self.ticks or not self.container.format.name.startswith("matroska"):
      return ()
    try:  # FFmpeg reads the cues when it seeks for the first time.
      self.container.seek(self.stream.start_time or 0, stream=self.stream)
    except av.error.FFmpegError:
      return ()
    ticks = [entry.timestamp for entry in self.stream.index_entries if entry.is_keyframe]
    # Beyond the last cue, FFmpeg looks for more key frames, which costs time.
    return tuple(sorted(ticks)[:-1])

  def packets(self, *streams) -> Iterator[av.Packet]:
    """Packets of `streams`, by default the video's, from the current position."""
    if not streams:
      streams = (self.stream,)
    for packet in self.container.demux(*streams):
      self.budget.spend()
      yield packet


def is_broadcast(container: av.container.InputContainer) -> bool:
  """Whether the clocks of a container's format may leap."""
  return bool(container.format.flags & _BROADCAST)


def media_kind(media: Media) -> str:
  """folder | image | video, as `content_kind`; MOTION_JPEG are videos. Raises MediaError."""
  kind = content_kind(media)
  if kind != "image" or isinstance(media, bytes):
    return kind
  return "video" if os.fspath(media).lower().endswith(MOTION_JPEG) else "image"


@contextlib.contextmanager
def open_video(media: Media, limits: Limits = LIMITS) -> Iterator[OpenVideo]:
  """Opens a video file or its bytes.

  Raises MediaError for a file without a video, a damaged file, or a file beyond `limits`.
  """
  # "file:" keeps a name such as concat:a|b from reaching another protocol of FFmpeg; the white
  # lists do the same for what a file names.
  source: str | BinaryIO
  if is_packed(media):
    source = open_packed(media)
  else:
    with reported(media):
      source = f"file:{remote.local_path(file_path(media))}"
  with reported(media), contextlib.ExitStack() as stack:
    if not isinstance(source, str):
      stack.enter_context(contextlib.closing(source))
    _check_screen(media, source, limits)
    container = stack.enter_context(_container(media, source, limits))
    stream = _shown_stream(media, container)
    # One thread per video: videos are read in parallel, a pool per video costs more CPU.
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    if limits.video_pixels:
      stream.codec_context.options = {"max_pixels": str(limits.video_pixels)}
    if stream.time_base is None:
      raise MediaError(f"{media_name(media)}: has a video without a time base.")
    video = OpenVideo(
      name=media_name(media),
      container=container,
      stream=stream,
      budget=Budget(media, limits),
      tick=float(stream.time_base),
    )
    try:
      yield _indexed(video)
    except (MediaError, av.error.ArgumentError) as error:
      reason = error.__cause__ or error
      is_bound = isinstance(reason, av.error.ArgumentError)  # FFmpeg's error beyond max_pixels.
      if not limits.video_pixels or not is_bound:
        raise
      text = f"has frames of more than {limits.video_pixels} pixels, or is damaged."
      raise LargeFrameError(f"{media_name(media)}: {text}") from error


def _container(media: Media, source: str | BinaryIO, limits: Limits) -> av.container.InputContainer:
  options = {"protocol_whitelist": "file", "format_whitelist": _single_file_formats()}
  try:
    return av.open(
      source, "r", timeout=(limits.open_seconds, limits.decode_seconds), container_options=options
    )
  except (av.error.ArgumentError, av.error.InvalidDataError) as error:
    reason = foreign_content(media)
    if not reason and isinstance(error, av.error.InvalidDataError):
      raise
    # FFmpeg's other error is the one for a format outside the white list.
    reason = reason or "is not a picture or a video, or it lists other files, which is not followed"
    raise MediaError(f"{media_name(media)}: {reason}.") from error


@functools.cache
def _single_file_formats() -> str:
  """FFmpeg's option format_whitelist: all input formats except `_LISTS`."""
  names = []
  for name_or_alias in sorted(av.formats_available):
    form = av.format.ContainerFormat(name_or_alias)
    if form.is_input and _LISTS.isdisjoint(form.name.split(",")):
      names.append(form.name)
  return ",".join(names)


def _check_screen(media: Media, source: str | BinaryIO, limits: Limits):
  """Raises MediaError for a GIF whose frames exceed limits.image_pixels.

  37 bytes can demand gigabytes, which FFmpeg would allocate while it opens the file.
  """
  if isinstance(source, str):
    with open_file(media) as file:
      head = file.read(10)
  else:
    head = source.read(10)
    source.seek(0)
  if head.startswith(b"GIF8") and len(head) == 10:
    width, height = struct.unpack("<HH", head[6:])
    check_pixels(media, width, height, limits)


def _shown_stream(media: Media, container) -> av.video.stream.VideoStream:
  """The video stream that is played.

  The default stream, then one of several frames, then the largest, then the first.
  """
  streams = [stream for stream in container.streams.video if not stream.disposition & _COVER]
  if not streams:
    raise MediaError(f"{media_name(media)}: has no video stream.")
  decodable = [stream for stream in streams if stream.codec_context is not None]
  if not decodable:
    reason = foreign_content(media) or "has video of an unknown codec"
    raise MediaError(f"{media_name(media)}: {reason}.")
  return max(decodable, key=_preference)


def _preference(stream) -> tuple[bool, bool, int]:
  context = stream.codec_context
  is_default = bool(stream.disposition & _DEFAULT)
  is_still = stream.frames == 1  # As the first picture of an animated AVIF.
  return is_default, not is_still, context.width * context.height


def _indexed(video: OpenVideo) -> OpenVideo:
  """Reads the container's own index if it covers every frame."""
  container = video.container
  stream = video.stream
  entries = len(stream.index_entries)
  if not entries or not stream.frames or (entries != stream.frames and not video.edited):
    return video  # A fragmented file, or an index of key frames only.
  ticks = []
  keys = []
  end = 0
  for entry in stream.index_entries:
    end = entry.pos + entry.size
    if entry.is_keyframe:
      keys.append(entry.timestamp)
    if not entry.is_discard and entry.size:  # In AVI an empty entry repeats a frame.
      ticks.append(entry.timestamp)
  if end > container.size > 0:
    raise MediaError(f"{video.name}: is truncated: it has {container.size} of {end} bytes.")
  rising = all(before < after for before, after in itertools.pairwise(ticks))
  # A palette change is sent with its packet, so streams with palettes are read sequentially.
  if not rising or stream.codec_context.pix_fmt == "pal8":
    keys = []
  return dataclasses.replace(
    video, ticks=tuple(ticks), keys=tuple(keys), origin=stream.index_entries[0].timestamp
  )
