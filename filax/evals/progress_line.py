# SPDX-License-Identifier: Apache-2.0
"""The progress line of an evaluation on stderr."""

import collections
import sys
import time

SECONDS = 2.0  # Minimum time between two lines.


class ProgressLine:
  """Count, rate over the last lines, remaining time and accuracy so far."""

  def __init__(self, total: int, start: float):
    self._total = total
    self._printed = start
    self._pace = collections.deque([(start, 0)], maxlen=5)  # (time, questions done) of lines.

  def print_line(self, done: int, bad_media: int, accuracy: float | None, last: bool) -> None:
    """Prints the line if SECONDS have passed or it is the last."""
    now = time.perf_counter()
    if now - self._printed < SECONDS and not last:
      return
    self._printed = now
    window_start, done_before = self._pace[0]
    self._pace.append((now, done))
    rate = max(done - done_before, 1) / (now - window_start)
    scores = "" if accuracy is None else f", accuracy {accuracy:.3f}"
    print(
      f"questions {done}/{self._total}, {bad_media} bad media, {rate:.1f}/s, "
      f"{(self._total - done) / rate:.0f} s left{scores}",
      file=sys.stderr,
      flush=True,
    )
