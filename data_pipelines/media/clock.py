# SPDX-License-Identifier: Apache-2.0
"""Display times of frames as players compute them from irregular file clocks.

Times are ticks: whole numbers of the stream's time base.
"""

import bisect
import math

import av

_LEAP_SECONDS = 10.0  # A larger leap of a broadcast clock is a reset; FFmpeg's threshold.
_FALL_SECONDS = 0.1  # The same for a broadcast clock that falls.
_OTHER_FALL_SECONDS = 1.0  # Other clocks are reset only where files were joined.
_REMEMBERED = 1024  # Times that DisplayOrder remembers: far more than codecs reorder.


class Clock:
  """Sets the times of packets so that decoding times never fall back.

  If a clock restarts in the middle of a file (joined recordings), its times continue after the end
  of the earlier frames. Packets without times follow each other at the stream's rate.
  """

  def __init__(self, tick: float, step: float, broadcast: bool):
    """Starts a clock.

    tick: seconds. step: ticks from frame to frame. broadcast: gaps are not pauses (MPEG-TS).
    """
    self.step = step
    self.offset = 0  # Ticks added since the clock began again.
    # Decoding time of the next packet, as far as the last one tells.
    self.expected: float | None = None
    self.shown_until = -math.inf  # Display time at which all packets so far have been shown.
    self._fall = (_FALL_SECONDS if broadcast else _OTHER_FALL_SECONDS) / tick
    self._leap = _LEAP_SECONDS / tick if broadcast else math.inf

  def stamp(self, packet: av.Packet) -> None:
    """Sets the times of the next packet."""
    length = packet.duration or self.step
    if packet.dts is None and packet.pts is None:
      decoding = self.expected or 0
      packet.dts = round(decoding)
      self.expected = decoding + length
      return
    if packet.dts is not None:
      expected = self.expected
      if expected is not None and not self._goes_on(packet.dts + self.offset - expected):
        wait = expected - packet.dts
        if packet.pts is not None:
          wait = max(wait, self.shown_until - packet.pts)
        self.offset = round(wait)
      packet.dts += self.offset
      self.expected = packet.dts + length
    if packet.pts is not None:
      packet.pts += self.offset
      self.shown_until = max(self.shown_until, packet.pts + length)

  def restart(self) -> None:
    """Forgets the last packet: the next one follows a seek."""
    self.expected = None
    self.shown_until = -math.inf

  def _goes_on(self, advance: float) -> bool:
    """Whether the clock was not set again.

    advance: ticks past the expected time.
    """
    return -self._fall <= advance <= self._leap


class DisplayOrder:
  """Display times for packets with decoding times only (AVI, raw streams).

  The n-th shown frame gets the n-th time. A decoder returns frames in display order, each `depth`
  packets late, so a frame's position is known even if frames are missing.
  """

  def __init__(self, step: float):
    self.step = step
    self.times: list[int] = []
    self.place = -1  # Index of the last frame in `times`.

  def feed(self, ticks: int) -> None:
    """Records the time of a packet that is sent to the decoder."""
    bisect.insort(self.times, ticks)
    if len(self.times) > 2 * _REMEMBERED:
      del self.times[:_REMEMBERED]
      self.place = max(-1, self.place - _REMEMBERED)

  def next_time(self, depth: int) -> float:
    """The time of the next frame; the decoder is `depth` packets late."""
    last = len(self.times) - 1
    self.place = max(self.place + 1, last - depth)
    beyond = max(0, self.place - last)
    latest = self.times[min(self.place, last)]
    return latest + beyond * self.step
