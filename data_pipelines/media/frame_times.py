# SPDX-License-Identifier: Apache-2.0
"""Display times of a video's frames: count, end and irregularity."""

import dataclasses
import math

import av
import numpy as np

from data_pipelines.media.container import OpenVideo
from data_pipelines.media.open import MediaError
from data_pipelines.media.reader import PacketReader, display_ticks

_EVEN = 0.25  # Fraction of a frame: smaller deviations of index times mean a constant rate.
_BRIEFEST = 1e-3  # Minimum plausible duration of a packet in seconds.
_MARGIN = 0.1  # Fraction of a frame: distance of the seconds of `corners` from the frame's ends.
_CLOCK_DURATIONS = ("matroska", "nut")  # Formats whose duration is the clock time of the end.


@dataclasses.dataclass(frozen=True)
class FrameTimes:
  """Frame count and times, in seconds since the first shown frame."""

  count: int  # Shown frames.
  last: float  # Time at which the last frame appears.
  duration: float  # Time at which the last frame ends.
  corners: tuple[tuple[float, float], ...] = ()  # See `corners`.


class Tally:
  """Counts the packets of a video as they are read."""

  def __init__(self, video: OpenVideo):
    self.video = video
    self.ticks: list[int] = []  # Display times of packets that will be shown.
    self.latest = 0  # Display time of the packet that is shown last.
    self.length = 0  # Ticks for which that packet stays.
    self.reached = 0.0  # Seconds of the file's clock that any of its streams has reached.

  def watch(self, packet: av.Packet) -> None:
    """Counts one packet, of the video or of another stream."""
    ticks = display_ticks(packet)
    if ticks is None:
      return
    end = ticks + (packet.duration or 0)
    end_second = float(end * packet.time_base)
    self.reached = max(self.reached, end_second)
    if packet.stream is not self.video.stream or _is_hidden(packet):
      return
    if not self.ticks or ticks >= self.latest:
      self.latest = ticks
      self.length = packet.duration or 0
    self.ticks.append(ticks)


def frame_times(video: OpenVideo, reader: PacketReader, tally: Tally) -> FrameTimes:
  """Computes the frame times of a video.

  reader: has decoded the first frame. Files without a full index are read to their end, and so are
  files of a varying rate with reordered frames. Raises MediaError for a truncated file.
  """
  ticks = _index_ticks(video, reader)
  if ticks is None:
    for _ in reader.packets:
      pass
    if not video.ticks:
      _check_complete(video, tally)
    start = reader.start
    shown_ticks = sorted(t for t in tally.ticks if t >= start)
    ticks = np.array(shown_ticks, np.float64)
  if not len(ticks):
    ticks = np.zeros(1)
  seconds = (ticks - ticks[0]) * video.tick
  end = _end(video, reader, seconds, tally)
  return FrameTimes(
    count=len(seconds), last=float(seconds[-1]), duration=end, corners=corners(seconds, end)
  )


def _index_ticks(video: OpenVideo, reader: PacketReader) -> np.ndarray | None:
  """Display times of all frames from the index, or None.

  They are correct up to a constant offset.
  """
  if not video.ticks or reader.clock.offset:
    return None
  if reader.depth and video.hides_frames:
    return None  # Decoding times do not tell which frames come first.
  lag = reader.origin - video.origin  # From decoding to display.
  ticks = np.array(video.ticks, np.float64)
  ticks = ticks[ticks >= reader.start - lag]
  if not len(ticks):
    return None
  # Files with edit lists have display times, even if the first ones are uninformative.
  in_order = not reader.depth or (reader.unordered and not video.edited)
  return ticks if in_order or _is_even(ticks) else None


def _is_even(ticks: np.ndarray) -> bool:
  """Whether decoding times follow a constant rate.

  Then display times do as well.
  """
  if len(ticks) < 3:
    return False
  first = ticks[0]
  last = ticks[-1]
  line = np.linspace(first, last, len(ticks))
  step = (last - first) / (len(ticks) - 1)
  deviation = np.abs(ticks - line).max()
  return bool(deviation <= max(1.0, _EVEN * step))


def _end(video: OpenVideo, reader: PacketReader, seconds: np.ndarray, tally: Tally) -> float:
  """The time at which the last frame ends."""
  last = float(seconds[-1])
  count = len(seconds)
  step = video.frame_ticks * video.tick
  if count > 1:
    step = last / (count - 1)
  if not video.ticks:
    length = tally.length * video.tick
    return last + (length if length > _BRIEFEST else step)
  lost = 0.0
  if video.edited:
    # Headers count from the file's first frame, which may not be displayable.
    lost = (reader.start - (video.stream.start_time or 0)) * video.tick
  stream_end = (video.stream.duration or 0) * video.tick - lost
  promises = [stream_end]
  if count > 2 and not _is_even(seconds / video.tick):
    step = last - float(seconds[-2])
    # The stream's duration sums over frames in decoding order, wrong at a varying rate.
    container_end = (video.container.duration or 0) / 1e6 - lost
    promises.append(container_end)
  longer = [promise for promise in promises if promise > last]
  if not longer:
    return last + step
  end = min(longer)
  difference = abs(end - last - step)
  if difference >= step or difference < 1e-6:
    return end
  return last + step


def corners(seconds: np.ndarray, end: float) -> tuple[tuple[float, float], ...]:
  """Corners (frame, second) of a line through all frames' display times.

  At frame i the line passes through a second at which frame i is shown. The times `seconds` f64 [n]
  are ascending. () if the times of a constant rate, (i + 1/2) * end / n, also fulfil this.

  Example: frames at 0, 1 and 5 s of a video of 6 s have the corners (0, 0.5), (1, 3), (2, 5.5).
  """
  lengths = np.diff(seconds, append=max(end, seconds[-1]))
  low = seconds + _MARGIN * lengths
  high = seconds + (1 - _MARGIN) * lengths
  numbers = np.arange(len(seconds))
  even = (numbers + 0.5) * (end / len(seconds))
  inside = (even >= low) & (even <= high)
  if inside.all():
    return ()
  return tuple(_line(low.tolist(), high.tolist()))


def _line(low: list[float], high: list[float]) -> list[tuple[float, float]]:
  """A line with few corners between two bounds, by a greedy search."""
  begin = 0
  height = (low[0] + high[0]) / 2
  line: list[tuple[float, float]] = [(begin, round(height, 6))]
  while begin < len(low) - 1:
    flattest = -math.inf
    steepest = math.inf
    end = begin
    while end + 1 < len(low):
      run = end + 1 - begin
      flatter = max(flattest, (low[end + 1] - height) / run)
      steeper = min(steepest, (high[end + 1] - height) / run)
      if flatter > steeper:
        break
      flattest = flatter
      steepest = steeper
      end += 1
    slope = (flattest + steepest) / 2
    height += slope * (end - begin)
    begin = end
    line.append((begin, round(height, 6)))
  return line


def _is_hidden(packet: av.Packet) -> bool:
  """Whether a packet shows no frame."""
  if packet.is_discard or not packet.size:
    return True
  if packet.stream.codec_context.name != "vp8":
    return False
  # The first byte of a VP8 frame tells whether it is shown; hidden frames are references only.
  first_byte = memoryview(packet)[0]
  return not first_byte & 0x10


def _check_complete(video: OpenVideo, tally: Tally):
  """Raises MediaError for a truncated file.

  Its header promises a much longer duration than its content has.
  """
  container = video.container
  if not container.duration or video.broadcast:  # Durations of broadcasts are FFmpeg's guess.
    return
  start = (container.start_time or 0) / 1e6  # FFmpeg's microseconds.
  promised = container.duration / 1e6
  if container.format.name.startswith(_CLOCK_DURATIONS):
    promised -= max(0.0, start)
  reached = tally.reached - start
  if reached < 0.9 * promised - 1:
    raise MediaError(f"{video.name}: is truncated: it has {reached:.1f} of {promised:.1f} seconds.")
