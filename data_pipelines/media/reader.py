# SPDX-License-Identifier: Apache-2.0
"""Packets and frames of an open video, with their display times."""

from collections.abc import Callable, Iterator
import itertools

import av
from av.video.frame import PictureType

from data_pipelines.media.clock import Clock, DisplayOrder
from data_pipelines.media.container import OpenVideo
from data_pipelines.media.open import MediaError

TimedFrame = tuple[float, av.VideoFrame]  # Ticks, and the frame shown from then on.

# Decoders that return grey, incomplete frames if a video begins between key frames.
_GHOSTS = ("mpeg4", "msmpeg4", "wmv1", "wmv2", "h263", "flv")
_LOOK_AHEAD = 16  # Packets to check for real display times; more than codecs reorder.


class PacketReader:
  """Reads a video from its beginning or from a seek position.

  video: open, nothing read yet. watch: called with every packet of the video, its times set, and
  with every packet of other streams if `all_streams`.
  """

  def __init__(
    self,
    video: OpenVideo,
    watch: Callable[[av.Packet], None] | None = None,
    all_streams: bool = False,
  ):
    self.video = video
    self.watch = watch
    self.all_streams = all_streams
    self.clock = Clock(video.tick, video.frame_ticks, video.broadcast)
    # Whether display times of packets are missing, or only derived from their order in the file.
    self.unordered: bool | None = None
    self._start: float | None = None  # See `start`.
    self._origin: int | None = None  # See `origin`.
    self.packets = self._packets()

  @property
  def start(self) -> float:
    """Display ticks of the first shown frame, once it is decoded."""
    if self._start is None:
      raise self.no_frame()
    return self._start

  @property
  def origin(self) -> int:
    """Display ticks of the file's first packet, once it is read."""
    if self._origin is None:
      raise self.no_frame()
    return self._origin

  @property
  def depth(self) -> int:
    """The decoder's delay in packets, for reordering frames."""
    return self.video.stream.codec_context.reorder_depth

  def no_frame(self) -> MediaError:
    """The error about a video of which nothing can be shown."""
    return MediaError(f"{self.video.name}: has no frame that can be decoded.")

  def seek(self, ticks: int) -> None:
    """Goes to a key frame not after `ticks`, and forgets earlier packets."""
    try:
      self.video.container.seek(ticks, stream=self.video.stream, backward=True)
    except OverflowError as error:
      raise self._impossible_times() from error
    self.clock.restart()
    self.packets = self._packets()

  def frames(self, hidden: Callable[[int | None], bool] | None = None) -> Iterator[TimedFrame]:
    """(ticks, frame) in the order of display, from the current position.

    hidden: whether a packet with this display time may be skipped if no other frame needs it.
    Raises MediaError for damage. A video that begins between key frames starts at its first
    decodable frame.
    """
    codec = self.video.stream.codec_context
    order = DisplayOrder(self.video.frame_ticks)
    beheaded = (
      None  # Whether the first packet is not a key frame, so that errors may precede frames.
    )
    latest: float | None = None
    needs_key = codec.name.startswith(_GHOSTS)
    for packet in self.packets:
      flush = packet.dts is None and packet.pts is None
      if not packet.size and not flush:
        continue  # The previous frame stays. An empty packet would end the decoder.
      if beheaded is None:
        beheaded = not packet.is_keyframe
      if self.unordered and packet.size:
        packet_ticks = display_ticks(packet)
        if packet_ticks is not None:  # The clock gave it one.
          order.feed(packet_ticks)
      may_skip = False
      # A decoder's delay counts frames, so none may be skipped where times come from it.
      if hidden is not None and not (self.unordered and self.depth):
        may_skip = hidden(packet.pts)
      codec.skip_frame = "NONREF" if may_skip else "DEFAULT"
      for frame in self._decoded(packet, latest, beheaded):
        if frame.is_corrupt:
          raise self._damage(latest)
        ticks = order.next_time(self.depth) if self.unordered else frame.pts
        needs_key = needs_key and frame.pict_type != PictureType.I
        if needs_key:
          continue
        if ticks is None:
          ticks = 0 if latest is None else latest + self.video.frame_ticks
        if self._start is None:
          self._start = ticks
        latest = ticks
        yield ticks, frame

  def _impossible_times(self) -> MediaError:
    return MediaError(f"{self.video.name}: has times that do not fit 64 bits.")

  def _damage(self, latest: float | None) -> MediaError:
    """The error about damage after the frame at `latest` ticks."""
    second = 0.0 if latest is None else (latest - self.start) * self.video.tick
    return MediaError(f"{self.video.name}: is damaged after {second:.2f} s.")

  def _decoded(
    self, packet: av.Packet, latest: float | None, beheaded: bool
  ) -> list[av.VideoFrame]:
    """The decoded frames of a packet.

    Raises errors, but leaves damaged frames out at the beginning of a video that is `beheaded`.
    """
    forgiven = beheaded and latest is None
    try:
      frames = packet.decode()
    except av.error.FFmpegError as error:
      if forgiven:
        return []
      if isinstance(error, av.error.InvalidDataError):
        raise self._damage(latest) from error
      raise
    if not forgiven:
      return frames
    return [frame for frame in frames if not frame.is_corrupt]

  def _packets(self) -> Iterator[av.Packet]:
    """The video's packets with times set, and a final flushing packet."""
    packets = self._stamped()
    head = []
    if self.unordered is None:
      for packet in packets:
        head.append(packet)
        if len(head) == _LOOK_AHEAD or _falls(head):
          break
      self.unordered = _lacks_display_times(head, self.depth)
      packets = itertools.chain(head, packets)
    if head and self._origin is None:
      self._origin = display_ticks(head[0])
    yield from packets

  def _stamped(self) -> Iterator[av.Packet]:
    streams = self.video.container.streams if self.all_streams else ()
    latest = None
    for packet in self.video.packets(*streams):
      is_video = packet.stream is self.video.stream  # The index is not set on a flushing packet.
      if is_video and (packet.size or packet.dts is not None or packet.pts is not None):
        try:
          self.clock.stamp(packet)
        except OverflowError as error:
          raise self._impossible_times() from error
        if packet.pts is not None:
          if latest is not None and packet.pts < latest:
            self.unordered = False  # Display times that differ from the file's order are real.
          latest = packet.pts
      if self.watch is not None:
        self.watch(packet)
      if is_video:
        yield packet


def display_ticks(packet: av.Packet) -> int | None:
  """A packet's display time, or else its decoding time."""
  return packet.dts if packet.pts is None else packet.pts


def _falls(packets: list[av.Packet]) -> bool:
  """Whether the last packet is shown before its predecessor."""
  if len(packets) < 2:
    return False
  before = packets[-2].pts
  last = packets[-1].pts
  return before is not None and last is not None and last < before


def _lacks_display_times(packets: list[av.Packet], depth: int) -> bool:
  """Whether the first packets lack real display times.

  They have no times, or times that only repeat the file's order although the decoder reorders
  frames (is `depth` packets late).
  """
  if all(packet.pts is None for packet in packets if packet.size):
    return True
  return depth > 0 and not _falls(packets)
