# SPDX-License-Identifier: Apache-2.0
"""The progress of an evaluation on stderr."""

import collections
from collections.abc import Callable
import time

from filax.progress import ProgressLine


class EvaluationProgress:
  """Count, rate over the last lines, remaining time and accuracy so far.

  start: seconds of time.perf_counter.
  """

  def __init__(self, total: int, start: float):
    self._total = total
    self._line = ProgressLine(total)
    self._pace = collections.deque([(start, 0)], maxlen=5)  # (time, questions done) of lines.

  def count_answers(
    self, done: int, bad_media: int, accuracy: Callable[[], float | None], last: bool
  ) -> None:
    """Shows the counts if some time has passed, or at the end.

    accuracy: averages all answers so far, so it is called only for what is shown.
    """

    def words() -> str:
      return self._words(done, bad_media, accuracy())

    if last:
      self._line.end(words, always=True)
    else:
      self._line.show(done, words)

  def remove_bar(self) -> None:
    """Removes a bar that an error left."""
    self._line.remove_bar()

  def _words(self, done: int, bad_media: int, accuracy: float | None) -> str:
    now = time.perf_counter()
    window_start, done_before = self._pace[0]
    self._pace.append((now, done))
    rate = max(done - done_before, 1) / (now - window_start)
    scores = "" if accuracy is None else f", accuracy {accuracy:.3f}"
    return (
      f"questions {done}/{self._total}, {bad_media} bad media, {rate:.1f}/s, "
      f"{(self._total - done) / rate:.0f} s left{scores}"
    )
