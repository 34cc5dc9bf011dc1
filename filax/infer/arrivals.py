# SPDX-License-Identifier: Apache-2.0
"""What arrives while a video is watched: frames, typed questions, the end."""

from collections.abc import Iterable, Iterator
import dataclasses
import queue
import threading

import numpy as np

from data_pipelines.media.live_video import LiveVideo
from data_pipelines.media.open import MediaError

HELD = 64  # Frames that wait for the model at most.


@dataclasses.dataclass(frozen=True, eq=False)
class ArrivedFrame:
  """A frame uint8 [size size 3] and its second."""

  second: float
  picture: np.ndarray


@dataclasses.dataclass(frozen=True)
class ArrivedQuestion:
  """A question that somebody typed."""

  text: str


@dataclasses.dataclass(frozen=True)
class EndOfVideo:
  """The video is over.

  `error` is the reason if it broke off, in one sentence.
  """

  error: str = ""


class Arrivals:
  """Frames of a video and lines of text, as they arrive.

  Iterate over it until both are over. A file waits for its reader; frames of a camera or a stream
  that come while HELD others wait are left out and counted in `missed`.
  """

  def __init__(self, video: LiveVideo, lines: Iterable[str] | None = None):
    self.missed = 0
    self._video = video
    self._queue: queue.Queue = queue.Queue()
    self._places = threading.Semaphore(HELD)
    self._running = 1
    self._start_thread(self._read_video)
    if lines is not None:
      self._running += 1
      self._start_thread(self._read_lines, lines)

  def __iter__(self) -> Iterator[ArrivedFrame | ArrivedQuestion | EndOfVideo]:
    while self._running:
      arrival = self._queue.get()
      if arrival is None:
        self._running -= 1
        continue
      if isinstance(arrival, ArrivedFrame):
        self._places.release()
      yield arrival

  def _start_thread(self, target, *args) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()

  def _read_video(self) -> None:
    error = ""
    try:
      for second, picture in self._video.frames():
        if self._places.acquire(blocking=self._video.waits):
          self._queue.put(ArrivedFrame(second, picture))
        else:
          self.missed += 1
    except MediaError as failure:
      error = str(failure)
    except Exception as failure:  # Whatever it is, the questions about what was seen continue.
      error = f"{self._video.display_name}: {failure or type(failure).__name__}."
    self._queue.put(EndOfVideo(error))
    self._queue.put(None)

  def _read_lines(self, lines: Iterable[str]) -> None:
    try:
      for line in lines:
        if line.strip():
          self._queue.put(ArrivedQuestion(line.strip()))
    except (OSError, ValueError):  # An input that cannot be read, or is closed, has ended.
      return
    finally:
      self._queue.put(None)
